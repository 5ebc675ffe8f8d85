"""The page's own words, and markdown as it reads it."""

import asyncio

import pytest

from tests.support.page_stage import Stage

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


async def test_both_languages_have_the_same_sentences_with_the_same_gaps(stage: Stage) -> None:
    ana = await stage.client("ana")
    differences = await ana.page.evaluate(
        r"""async () => {
            const { LANGUAGES } = await import("/js/text.js");
            const gaps = (value) => JSON.stringify(value).match(/\{\w+\}/g)?.sort().join() ?? "";
            const shape = (words) => Object.entries(words).map(([key, value]) => `${key}: ${typeof value} ${gaps(value)}`).sort();
            const [en, es] = [shape(LANGUAGES.en), shape(LANGUAGES.es)];
            return [...en.filter((one) => !es.includes(one)), ...es.filter((one) => !en.includes(one))];
        }"""
    )
    assert differences == []


MARKDOWN = {
    "plain": "<p>plain</p>",
    "**b** *i* _i_ __u__ ~~s~~ `c`": "<p><strong>b</strong> <em>i</em> <em>i</em> <u>u</u> <s>s</s> <code>c</code></p>",
    "***both***": "<p><strong><em>both</em></strong></p>",
    "snake_case_name and 2 * 3 * 4": "<p>snake_case_name and 2 * 3 * 4</p>",
    r"\*not\* \`code\`": "<p>*not* `code`</p>",
    "``a ` b``": "<p><code>a ` b</code></p>",
    "`**raw**`": "<p><code>**raw**</code></p>",
    "# one\n## two\n### three\n#### four": "<h3>one</h3><h4>two</h4><h5>three</h5><p>#### four</p>",
    "-# small": "<p>small</p>",
    "> a\n> b\nc": "<blockquote><p>a<br>b</p></blockquote><p>c</p>",
    ">>> a\nb": "<blockquote><p>a<br>b</p></blockquote>",
    "- a\n- b\n  - c\n1. d": "<ul><li>a</li><li>b<ul><li>c</li></ul></li></ul><ol><li>d</li></ol>",
    "3. c\n4. d": '<ol start="3"><li>c</li><li>d</li></ol>',
    "a\nb": "<p>a<br>b</p>",
    "<b>": "<p>&lt;b&gt;</p>",
    "**open": "<p>**open</p>",
    "@everyone": "<p><span>@everyone</span></p>",
}


async def test_markdown_reads_as_in_discord(stage: Stage) -> None:
    ana = await stage.client("ana")
    shown = await ana.page.evaluate(
        """async (sources) => {
            const { RichText } = await import("/js/rich_text.js");
            const rich = new RichText({ world: null, go: null, useCommand: null });
            return sources.map((source) => {
                const box = rich.blocks(source);
                for (const element of box.querySelectorAll("[class]")) element.removeAttribute("class");
                return box.innerHTML;
            });
        }""",
        list(MARKDOWN),
    )
    assert dict(zip(MARKDOWN, shown, strict=True)) == MARKDOWN


@pytest.mark.timeout(60)
async def test_markdown_made_to_confuse_the_reader_does_not_stall_the_page(stage: Stage) -> None:
    ana = await stage.client("ana")
    hostile = [
        "*" * 4000,
        "_a" * 2000,
        "||" * 2000,
        "[" * 4000,
        "`" * 3999 + "a",
        "**a" * 1333,
        "*a**b" * 800,
        "[a](https://x " * 280,
        ">" * 4000,
    ]
    async with asyncio.timeout(20):  # a reader that goes back and forth takes minutes
        blocks = await ana.page.evaluate(
            """async (sources) => {
                const { parseMarkdown } = await import("/js/markdown.js");
                return sources.map((source) => parseMarkdown(source).length);
            }""",
            hostile,
        )
    assert all(blocks)
