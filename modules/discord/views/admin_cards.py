"""`/admin status` and `/admin queue`."""

from __future__ import annotations

from collections.abc import Sequence

from discord import ui

from modules.discord.views.layout import MAX_TEXT_CHARS, Accent, Piece, card, chars
from modules.discord.wording import channel_link, date_and_time, mention, moment, plain, small
from modules.domain.catalogue import TemplateProblem
from modules.domain.jobs import Job, short_id
from modules.domain.queue import QueueStatus, ServerStatus
from modules.domain.records import AuditEntry, DiskRoom
from modules.utils.i18n import Texts

#: Problems written out; all are counted.
MOST_PROBLEMS = 6
#: What they may take of the 4,000 characters: the servers come first.
_PROBLEM_CHARS = 1_500
#: Kept for the line that counts the servers which are left out.
_MORE_CHARS = 60
#: At most 122 characters each once escaped, with a comma between.
MOST_BLOCKED_WORDS = 25
_LIGHTS = {"healthy": "🟢", "away": "🔴", "probing": "🟡", "drained": "⚪", "starting": "🟡", "failing": "🟠"}


def status_card(
    status: QueueStatus, problems: Sequence[TemplateProblem], version: str, texts: Texts, room: DiskRoom | None = None
) -> ui.LayoutView:
    """The whole house at one moment."""
    is_well = not status.is_paused and any(server.state == "healthy" for server in status.servers)
    pieces: list[Piece | str] = [f"### {texts('admin.status.title')}"]
    if status.is_paused:
        pieces.append(texts("admin.status.paused"))
    if room is not None and room.is_short:
        pieces.append(texts("admin.status.disk_short", free_gb=round(room.free_bytes / 1e9, 1)))
    pieces.append(
        "\n".join(
            (
                texts("admin.status.queue", waiting=status.waiting, running=status.running),
                small(
                    texts("admin.status.longest", duration=texts.duration(status.longest_wait_s)),
                    texts("admin.status.spread", duration=texts.duration(status.fairness_spread_s)),
                    texts("admin.status.version", version=version) if version else "",
                ),
            )
        )
    )
    wrong = _problems(problems, texts) if problems else ""
    taken = sum(chars(piece) for piece in (*pieces, wrong) if isinstance(piece, str))
    pieces += [_servers(status.servers, MAX_TEXT_CHARS - taken, texts), wrong]
    return card(Accent.GREEN if is_well else Accent.YELLOW, *pieces)


def queue_overview(jobs: Sequence[Job], status: QueueStatus, texts: Texts) -> ui.LayoutView:
    """Who waits and what runs, oldest first; prompts stay private."""
    if not jobs:
        return card(Accent.GREY, texts("admin.queue.empty"))
    lines = [
        f"`{short_id(job.id)}` {plain(job.display_name, 40)} · {plain(job.recipe.model, 30)} · "
        f"{texts(f'state.{job.state.value}')} · {moment(job.accepted_at)}"
        for job in jobs
    ]
    rest = status.waiting + status.running - len(jobs)
    title = f"### {texts('admin.queue.title', count=status.waiting + status.running)}"
    return card(Accent.GREY, title, "\n".join(lines), small(texts("queue.more", count=rest)) if rest > 0 else "")


def audit_card(trail: Sequence[AuditEntry], texts: Texts) -> ui.LayoutView:
    """What administrators did, newest first."""
    if not trail:
        return card(Accent.GREY, texts("admin.audit_empty"))
    lines = [f"{moment(entry.at)} · {mention(entry.actor_id)} · {_act(entry, texts)}" for entry in trail]
    return card(Accent.GREY, f"### {texts('admin.audit_title')}", "\n".join(lines))


def words_card(words: Sequence[str], whole: str, texts: Texts) -> tuple[ui.LayoutView, bool]:
    """The blocked words, and whether they were too many to write out: then the message must carry all of them as `whole`."""
    if not words:
        return card(Accent.GREY, texts("admin.words_none")), False
    shown = ", ".join(plain(word, 60) for word in words[:MOST_BLOCKED_WORDS])
    sentence = texts("admin.words", words=shown)
    if len(words) <= MOST_BLOCKED_WORDS:
        return card(Accent.GREY, sentence), False
    more = small(texts("queue.more", count=len(words) - MOST_BLOCKED_WORDS))
    return card(Accent.GREY, sentence, more, ui.File(f"attachment://{whole}")), True


def _act(entry: AuditEntry, texts: Texts) -> str:
    """An act in words; one that another version wrote, by its name."""
    key = f"act.{entry.act}"
    if key not in texts.sentences:
        return f"`{plain(entry.act, 40)}` {plain(entry.subject, 60)}".rstrip()
    match entry.act:
        case "person_banned" | "person_unbanned" if entry.subject.isdigit():
            subject = mention(int(entry.subject))
        case "audit_channel_set" if entry.subject.isdigit():
            subject = channel_link(int(entry.subject))
        case "job_cancelled" | "job_requeued":
            subject = f"`{entry.subject.replace('-', '')[:8]}`"  # as `short_id` writes it
        case _:
            subject = plain(entry.subject, 60)
    return texts(key, subject=subject)


def _servers(servers: Sequence[ServerStatus], room: int, texts: Texts) -> str:
    """Each in its order: a line, and as many as there is room for with all that is known, those that are not well first."""
    lines = [_line(server, texts) for server in servers]
    left = room - _MORE_CHARS
    shown = 0
    while shown < len(lines) and chars(lines[shown]) + 1 <= left:
        left -= chars(lines[shown]) + 1
        shown += 1
    for index in sorted(range(shown), key=lambda at: servers[at].state == "healthy"):
        whole = "\n".join((lines[index], *_details(servers[index], texts)))
        if (more := chars(whole) - chars(lines[index])) <= left:
            lines[index], left = whole, left - more
    rest = len(servers) - shown
    return "\n".join((*lines[:shown], *([small(texts("admin.status.more", count=rest))] if rest else [])))


def _line(server: ServerStatus, texts: Texts) -> str:
    light = _LIGHTS.get(server.state, "⚪")
    state = texts(f"server_state.{server.state}" if server.state in _LIGHTS else "server_state.starting")
    return f"{light} **{plain(server.name, 60)}** · {state} {date_and_time(server.since)}"


def _details(server: ServerStatus, texts: Texts) -> list[str]:
    facts = [
        texts("admin.status.running", count=len(server.running), ahead=len(server.ahead)),
        texts("admin.status.speed", count=round(server.pictures_per_minute)) if server.pictures_per_minute else "",
        texts("admin.status.loaded", model=plain(server.loaded, 60)) if server.loaded else "",
        texts("admin.status.comfyui", version=plain(server.version, 20)) if server.version else "",
        texts(f"merge.{server.merge_protocol}") if server.merge_protocol in {"none", "encode", "full"} else "",
    ]
    lines = [small(*facts)]
    if server.last_error:
        fault = f"fault.{server.last_error}"
        words = texts(fault if fault in texts.sentences else "fault.unknown")
        lines.append(small(texts("admin.status.last_error", error=words)))
    return lines


def _problems(problems: Sequence[TemplateProblem], texts: Texts) -> str:
    lines = [f"**{texts('admin.status.problems', count=len(problems))}**"]
    for problem in problems[:MOST_PROBLEMS]:
        where = plain(problem.server, 40) if problem.server else texts("admin.status.every_server")
        key = f"problem.{problem.what}"
        words = texts(key if key in texts.sentences else "problem.unknown", name=plain(problem.name, 80))
        what = f"{plain(problem.workflow, 40)} · {where} · {words}"
        have = ", ".join(plain(name, 50) for name in problem.available[:3])
        line = small(what, texts("admin.status.have", names=have) if have else "")
        if sum(chars(one) + 1 for one in (*lines, line)) > _PROBLEM_CHARS:
            break
        lines.append(line)
    return "\n".join(lines)
