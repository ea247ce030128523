"""The server's addresses: the page, what it calls, and the REST call."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Future
from functools import partial
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypeVar

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import Field, ValidationError
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    Response,
    StreamingResponse,
)

from ktdn_plugin import __version__
from ktdn_plugin.console import print_lines
from ktdn_plugin.errors import KTDNError
from ktdn_plugin.inference import Dehazer
from ktdn_plugin.inference.memory_sizes import format_memory
from ktdn_plugin.photos import READ_SUFFIXES
from ktdn_plugin.server.archive import zip_results
from ktdn_plugin.server.dehazing import (
    Looks,
    Result,
    Source,
    TooManyPixelsError,
    UnsupportedError,
    Wanted,
    Worker,
    look_at,
    result_name,
)
from ktdn_plugin.server.guard import Guard
from ktdn_plugin.server.limits import Limits
from ktdn_plugin.server.names import safe_name
from ktdn_plugin.server.queue import QueueFullError, StoppingError, WorkQueue
from ktdn_plugin.server.storage import Storage, StoredPhoto, discard
from ktdn_plugin.server.uploads import take_form, take_raw

T = TypeVar("T")
Id = Annotated[str, Field(max_length=64)]
MEDIA = {".png": "image/png", ".webp": "image/webp", ".tif": "image/tiff", ".tiff": "image/tiff"}
_ASSETS = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
_SECONDS_BETWEEN_SWEEPS = 30
_GONE = "there is no such photograph, or it was removed; add it again"
_CLIENT_HAS_GONE = 499  # nginx's; nobody hears it
_FILE = {"type": "string", "format": "binary", "description": "The photograph's file."}
_BODY = {
    "required": True,
    "content": {
        "application/octet-stream": {"schema": _FILE},
        "multipart/form-data": {
            "schema": {"type": "object", "required": ["file"], "properties": {"file": _FILE}}
        },
    },
}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The dehazed photograph. X-Notes says what of the file could not be kept.",
        "content": {kind: {} for kind in ("image/png", "image/jpeg", "image/webp", "image/tiff")},
    },
    413: {"description": "The file, or the photograph, is too large."},
    415: {"description": "The file is no photograph, or of a format that is not read."},
    422: {"description": "A damaged file, or a wrong parameter; 'detail' says what."},
    429: {"description": "The queue is full; Retry-After says when to try again, in seconds."},
}


class Call(Wanted):
    """Parameters of the REST call."""

    name: Annotated[
        str, Field(max_length=1024, description="The file's name, for the result's.")
    ] = "photo"


class GoneError(KTDNError):
    """A photograph that was removed meanwhile."""


class BrokenError(KTDNError):
    """A library failed in a way that nobody expected."""


_STATUS: dict[type[Exception], int] = {
    UnsupportedError: 415,
    TooManyPixelsError: 413,
    GoneError: 404,
    BrokenError: 500,
    StoppingError: 503,
}


def build_app(
    dehazer: Dehazer, queue: WorkQueue, limits: Limits, bound: str, allowed: Sequence[str] = ()
) -> FastAPI:
    """Builds the server's application.

    Args:
        dehazer: The network.
        queue: The queue in front of it.
        limits: What is taken at most.
        bound: The address that the server listens at.
        allowed: Names that it may be called by, beside its own.
    """
    return _App(Worker(dehazer), queue, limits).build(bound, allowed)


class _App:
    def __init__(self, worker: Worker, queue: WorkQueue, limits: Limits) -> None:
        self.worker = worker
        self.queue = queue
        self.limits = limits
        self.storage = Storage()
        self.one_at_a_time = asyncio.Lock()  # reading headers, of which some decode the image

    def build(self, bound: str, allowed: Sequence[str]) -> FastAPI:
        app = FastAPI(
            title="ktdn serve",
            version=__version__,
            summary="Dehazes photographs.",
            docs_url=None,  # those pages load scripts from elsewhere
            redoc_url=None,
            lifespan=self._live,
        )
        app.add_middleware(Guard, bound=bound, allowed=allowed, upload=self.limits.upload)
        app.add_exception_handler(QueueFullError, _say_full)
        app.add_exception_handler(KTDNError, _say_problem)
        app.add_exception_handler(RequestValidationError, _say_invalid)
        app.add_exception_handler(ClientDisconnect, _say_nothing)
        page = self._page()
        app.get("/", include_in_schema=False)(_answer(HTMLResponse(page)))
        for name, kind in _ASSETS.items():
            content = resources.files("ktdn_plugin.server").joinpath(name).read_bytes()
            asset = Response(content, media_type=kind)
            app.get(f"/{name}", include_in_schema=False)(_answer(asset))
        app.get("/healthz", summary="Says that the network is ready, and the queue's length.")(
            self.health
        )
        app.post(
            "/dehaze",
            summary="Dehazes one photograph and returns it.",
            response_class=FileResponse,
            responses=_ANSWERS,
            openapi_extra={"requestBody": _BODY},
        )(self.dehaze)
        for method, path, function in (
            ("POST", "/photos", self.add),
            ("GET", "/photos", self.states),
            ("DELETE", "/photos", self.remove),
            ("GET", "/photos/{photo_id}/result", self.result),
            ("GET", "/photos/{photo_id}/{look}", self.look),
            ("POST", "/archive", self.archive),
        ):
            app.add_api_route(path, function, methods=[method], include_in_schema=False)
        return app

    def _page(self) -> str:
        environment = Environment(
            loader=PackageLoader("ktdn_plugin.server", "."),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        return environment.get_template("page.html.j2").render(
            version=__version__,
            limits=self.limits,
            largest=format_memory(self.limits.upload),
            suffixes=sorted(READ_SUFFIXES),
            kinds=list(dict.fromkeys(READ_SUFFIXES.values())),
        )

    @contextlib.asynccontextmanager
    async def _live(self, _: FastAPI) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(self._sweep())
        try:
            yield
        finally:
            sweeping.cancel()
            await asyncio.to_thread(self.queue.close)
            self.storage.close()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SECONDS_BETWEEN_SWEEPS)
            await asyncio.to_thread(self.storage.remove_older, 60 * self.limits.minutes)

    async def health(self) -> dict[str, Any]:
        return {"status": "ok", "queue": len(self.queue), "max_queue": self.queue.most}

    async def dehaze(self, request: Request, call: Annotated[Call, Query()]) -> FileResponse:
        with self.queue.take() as place:
            folder = self.storage.new_folder()
            futures: list[Future[Result]] = []
            try:
                source, call = await self._take(request, folder, call)
                wanted = Wanted(**call.model_dump(exclude={"name"}))
                name = result_name(source, wanted)
                work = partial(self.worker.result, source, wanted, name)
                futures.append(place.run(work, source.pixels))
                result = await self._outcome(futures[0], request)
            except BaseException:
                discard(folder, futures)
                raise
        return _file(result, BackgroundTask(discard, folder))

    async def add(self, request: Request, name: Annotated[str, Query(max_length=4096)]) -> Any:
        if await asyncio.to_thread(self.storage.size) > self.limits.stored:
            line = (
                f"the server keeps {format_memory(self.limits.stored)} already; download and remove"
            )
            raise HTTPException(429, f"{line} photographs", {"Retry-After": "30"})
        with self.queue.take() as place:
            folder = self.storage.new_folder()
            try:
                source, _ = await self._take(request, folder, Call(name=name[-1024:]))
                wanted = Wanted()
                offered = result_name(source, wanted)
                work = partial(self.worker.looks, source, wanted, offered)
                photo = StoredPhoto(source, place, place.run(work, source.pixels))
            except BaseException:
                discard(folder)
                raise
            self.storage.add(photo)
        return JSONResponse(_state(photo), 201)

    async def states(self, id: Annotated[list[Id], Query(max_length=1000)]) -> Any:
        found = [(one, self.storage.get(one)) for one in id]
        return [_state(photo) if photo else {"id": one, "state": "gone"} for one, photo in found]

    async def remove(self, id: Annotated[list[Id], Query(max_length=1000)]) -> Response:
        await asyncio.to_thread(self.storage.remove, *id)
        return Response(status_code=204)

    async def look(
        self, photo_id: str, look: Literal["before", "after", "thumbnail"]
    ) -> FileResponse:
        photo = self._photo(photo_id)
        path = photo.source.path.parent / look
        if not photo.future.done() or not path.is_file():
            raise HTTPException(404, "is not ready")
        return FileResponse(path, media_type="image/jpeg")

    async def result(
        self, request: Request, photo_id: str, wanted: Annotated[Wanted, Query()]
    ) -> FileResponse:
        return _file(await self._result(self._photo(photo_id), wanted, request))

    async def archive(self, request: Request) -> StreamingResponse:
        async with request.form(max_files=0, max_fields=1000) as form:
            words = [str(one) for one in form.getlist("photo")]
            form_format = form.get("format") or None
        if not words:
            raise HTTPException(422, "photo: the form has no photograph; add photo=ID:STRENGTH")

        async def made(photo_id: str, wanted: Wanted) -> Result:
            while True:
                try:
                    return await self._result(self._photo(photo_id), wanted, request)
                except QueueFullError:
                    await asyncio.sleep(0.5)

        results = []
        for word in words:
            photo_id, _, strength = word.partition(":")
            try:
                wanted = Wanted.model_validate({"strength": strength, "format": form_format})
            except ValidationError as error:
                raise RequestValidationError(error.errors()) from error
            results.append(lambda photo_id=photo_id, wanted=wanted: made(photo_id, wanted))
        disposition = {"Content-Disposition": 'attachment; filename="dehazed.zip"'}
        return StreamingResponse(zip_results(results), 200, disposition, "application/zip")

    def _photo(self, photo_id: str) -> StoredPhoto:
        photo = self.storage.get(photo_id)
        if photo is None:
            raise GoneError(_GONE)
        return photo

    async def _result(self, photo: StoredPhoto, wanted: Wanted, request: Request) -> Result:
        if wanted == Wanted():
            return (await self._outcome(photo.future, request))[1]
        future = photo.results.get(wanted)
        if future is None or (future.done() and (future.cancelled() or future.exception())):
            source, name = photo.source, result_name(photo.source, wanted)
            with self.queue.take() as place:
                work = partial(self.worker.result, source, wanted, name)
                future = place.run(work, source.pixels)
            photo.keep_result(wanted, future)
        return await self._outcome(future, request)

    async def _outcome(self, future: Future[T], request: Request) -> T:
        """Waits for the network, as long as the client does."""
        waiting = asyncio.wrap_future(future)
        waiting.add_done_callback(lambda one: one.cancelled() or one.exception())  # it was seen
        while not (await asyncio.wait({waiting}, timeout=0.5))[0]:
            if self.queue.is_stopped:
                raise StoppingError
            if await request.is_disconnected():
                raise HTTPException(_CLIENT_HAS_GONE)
        if future.cancelled():
            raise StoppingError if self.queue.is_stopped else GoneError(_GONE)
        error = future.exception()
        if error is not None and not isinstance(error, KTDNError):
            raise BrokenError(_line(error)) from error
        return future.result()

    async def _take(self, request: Request, folder: Path, call: Call) -> tuple[Source, Call]:
        """Takes in a request's photograph, and the parameters of a form."""
        path = folder / "source"
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            name, fields = await take_form(request, path, self.limits.upload)
            try:
                given = call.model_dump(exclude_unset=True)
                call = Call.model_validate({"name": name[-1024:], **given, **fields})
            except ValidationError as error:
                raise RequestValidationError(error.errors()) from error
        else:
            await take_raw(request, path, self.limits.upload)
        async with self.one_at_a_time:
            name_here = safe_name(call.name)
            return await asyncio.to_thread(look_at, path, name_here, self.limits), call


def _answer(response: Response) -> Callable[[], Awaitable[Response]]:
    async def answer() -> Response:
        return response

    return answer


def _state(photo: StoredPhoto) -> dict[str, Any]:
    """Returns what the page shows of a photograph."""
    source, future = photo.source, photo.future
    state: dict[str, Any] = {
        "id": photo.id,
        "width": source.width,
        "height": source.height,
        "result": result_name(source, Wanted()).name,
    }
    if not future.done():
        seconds = photo.place.seconds_left
        is_running = photo.place.is_running
        left = None if seconds is None else round(seconds, 1)
        return state | {
            "state": "working" if is_running else "waiting",
            "ahead": photo.place.ahead,
            "seconds_left": left,
        }
    if future.cancelled():
        return state | {"state": "gone"}
    if error := future.exception():
        return state | {"state": "failed", "problem": _line(error)}
    looks: Looks = future.result()[0]
    return state | {"state": "done", "notes": looks.notes}


def _file(result: Result, background: BackgroundTask | None = None) -> FileResponse:
    headers = {}
    if result.notes:
        notes = "; ".join(result.notes)
        headers["X-Notes"] = notes.encode("ascii", "backslashreplace").decode()
    return FileResponse(
        result.path,
        filename=PurePosixPath(result.name).name,
        media_type=MEDIA.get(result.path.suffix, "image/jpeg"),
        headers=headers,
        background=background,
    )


def _line(error: BaseException) -> str:
    if isinstance(error, KTDNError):
        return str(error)
    # What a library says may hold paths of this machine; whoever runs the server may see them.
    print_lines(f"error: {type(error).__name__}: {' '.join(str(error).split())}", to_stderr=True)
    return "this photograph could not be dehazed; the server's terminal says why"


def _say_full(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, QueueFullError)
    return JSONResponse({"detail": str(error)}, 429, {"Retry-After": str(error.seconds)})


def _say_problem(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, _STATUS.get(type(error), 422))


def _say_nothing(_: Request, error: Exception) -> Response:
    return Response(status_code=_CLIENT_HAS_GONE)


def _say_invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = first["loc"][-1] if first["loc"] else "parameters"
    return JSONResponse({"detail": f"{where}: {first['msg']}"}, 422)
