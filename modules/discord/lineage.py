"""Whose words and settings a picture has: its own or, where it was only enlarged, those of what it was made from."""

from __future__ import annotations

import discord

from modules.discord import wishes
from modules.discord.checks import check_owner
from modules.discord.house import House
from modules.discord.wording import spec_of
from modules.domain.catalogue import ModelSpec
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.jobs import Job


class Lineage:
    """Follows pictures back to the job that drew them."""

    def __init__(self, house: House) -> None:
        self._house = house

    def spec(self, job: Job) -> ModelSpec:
        """Its model. Raises RECIPE_GONE when that is no longer on offer."""
        spec = spec_of(self._house.catalogue.models(), job)
        if spec is None:
            raise FulletError(ErrorCode.RECIPE_GONE)
        return spec

    async def drawn(self, interaction: discord.Interaction, job: Job) -> tuple[Job, ModelSpec]:
        """The job itself, or the nearest it was made from, whose template takes something that can be said; with its model.

        Raises ORIGINAL_GONE when that is no longer stored, RECIPE_GONE, and JOB_NOT_YOURS.
        """
        spec = self.spec(job)
        wishes.kind_of(job.recipe, spec)
        while not spec.details_of(job.recipe.workflow):
            parent = await self._house.jobs.job(job.parent_id) if job.parent_id else None
            if parent is None:
                raise FulletError(ErrorCode.ORIGINAL_GONE)
            job = check_owner(parent, interaction)
            spec = self.spec(job)
            wishes.kind_of(job.recipe, spec)
        return job, spec
