"""The routes of the person's face."""

from aiohttp import web

from modules.sandbox.discord_server.context import Context
from modules.sandbox.discord_server.person import acting, looking, managing
from modules.sandbox.discord_server.person.visit import visit


def add_person_routes(app: web.Application, context: Context) -> None:
    """Register `/person/...`."""

    async def world(_: web.Request) -> web.Response:
        return looking.world_identity(context)

    async def users(_: web.Request) -> web.Response:
        return looking.users(context)

    router = app.router
    router.add_get("/person/world", world)
    router.add_get("/person/users", users)
    router.add_get("/person/state", visit(context, looking.state))
    router.add_get("/person/messages", visit(context, looking.messages))
    router.add_get("/person/events", visit(context, looking.events, reads_json=False))
    router.add_post("/person/messages", visit(context, acting.write))
    router.add_post("/person/uploads", visit(context, acting.upload, reads_json=False))
    router.add_delete("/person/messages/{channel}/{message}", visit(context, acting.delete))
    router.add_post("/person/forward", visit(context, acting.forward))
    router.add_post("/person/threads", visit(context, managing.open_thread))
    router.add_post("/person/commands", visit(context, acting.use_command))
    router.add_post("/person/autocomplete", visit(context, acting.autocomplete))
    router.add_post("/person/components", visit(context, acting.use_component))
    router.add_post("/person/modals", visit(context, acting.submit_modal))
    router.add_post("/person/leave", visit(context, managing.leave_guild))
    router.add_post("/person/join", visit(context, managing.join_guild))
    router.add_post("/person/rename", visit(context, managing.rename))
    router.add_post("/person/privacy", visit(context, managing.set_privacy))
    router.add_post("/person/admin/delete_channel", visit(context, managing.delete_channel))
    router.add_post("/person/admin/create_channel", visit(context, managing.create_channel))
    router.add_post("/person/admin/kick", visit(context, managing.kick))
    router.add_post("/person/admin/timeout", visit(context, managing.time_out))
    router.add_post("/person/admin/roles", visit(context, managing.set_roles))
    router.add_post("/person/admin/invite", visit(context, managing.invite))
