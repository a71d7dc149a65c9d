"""The web application: a page for people, `/predict` for programs, `/health`, and the description of the endpoints."""

from __future__ import annotations

import asyncio
import base64
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from pydantic import BaseModel, Field

from pmtrain.config import ExplainConfig, ServeConfig, load_config
from pmtrain.data.images.read import BadImage
from pmtrain.data.preprocessing.preprocess import Preprocess
from pmtrain.data.preprocessing.retina.eye import aligned
from pmtrain.evaluation.inference.classifier import Classifier, Read
from pmtrain.evaluation.inference.predict import columns
from pmtrain.evaluation.inference.serving.batches import Batches, Overloaded, Worker
from pmtrain.evaluation.inference.serving.guard import Guard, Refusal
from pmtrain.evaluation.inference.serving.uploads import MEBIBYTE, Upload, decoded, read_uploads
from pmtrain.evaluation.saliency.gradcam import grad_cam, layers_for
from pmtrain.evaluation.saliency.overlay import css_gradient, overlay
from pmtrain.runs.checkpoint import Checkpoint, Ensemble, Networks, architecture, load_checkpoint
from pmtrain.system.errors import missing_extra
from pmtrain.system.hardware import available_cpus, use_every_core
from pmtrain.system.version import NOTICE, __version__

SHOWN = 320  # pixels: the side of a heat map's picture
WAITING = 1024  # images that may wait for the network


class ImageResult(BaseModel):
    """The prediction for one image; one that can't be read has its `error` alone."""

    file: str = Field(description="The name that the image was sent under.")
    probability: Annotated[float | None, Field(description="P(positive), from 0 to 1.")] = None
    prediction: Annotated[str | None, Field(description="The predicted class.")] = None
    positive: Annotated[bool | None, Field(description="Whether the probability is at least the threshold.")] = None
    verdict: Annotated[
        str | None, Field(description="in domain, unusual or refused, by the checkpoint's domain model if it has one.")
    ] = None
    reason: Annotated[str | None, Field(description="Why it is unusual or refused.")] = None
    familiarity: Annotated[
        float | None, Field(description="Share of the validation images that are as strange or stranger, from 0 to 1.")
    ] = None
    quality: Annotated[
        str | None, Field(description="good or poor, of fundus photographs; it changes nothing else.")
    ] = None
    quality_reason: Annotated[str | None, Field(description="Why the quality is poor.")] = None
    spread: Annotated[
        float | None, Field(description="Standard deviation of the logits, where several networks answer.")
    ] = None
    eye: Annotated[
        str | None, Field(description="left, right or unknown, where the network sees all eyes as left ones.")
    ] = None
    eye_from: Annotated[str | None, Field(description="What the eye is taken from: file name or optic disc.")] = None
    error: Annotated[str | None, Field(description="Why the image can't be read.")] = None
    heat_map: Annotated[str | None, Field(description="Grad-CAM over what the network saw, a JPEG as a data URI.")] = (
        None
    )


class Result(BaseModel):
    """The predictions of a request, in the order of its images, and the model that made them."""

    predictions: list[ImageResult] = Field(description="One for each image.")
    classes: tuple[str, str] = Field(description="The negative and the positive class.")
    threshold: float = Field(description="Images with at least this probability are called positive.")
    weights_sha256: str = Field(description="SHA-256 of the weights.")
    synthetic: bool = Field(description="Trained on SYNTHETIC images: no clinical claim can rest on it.")
    notice: str = Field(default=NOTICE, description="What the result is not for.")


class Health(BaseModel):
    """That the server runs, and with what."""

    status: str = Field(default="ok", description="Always ok: a server that has stopped doesn't answer.")
    network: str = Field(description="ResNet-18, or how many networks.")
    weights_sha256: str = Field(description="SHA-256 of the weights.")
    pmtrain: str = Field(default=__version__, description="The version of pmtrain.")


class Predictor:
    """The networks, their decoding threads and heat maps."""

    def __init__(self, checkpoint: Networks, config: ServeConfig) -> None:
        self.classifier = Classifier(checkpoint, config)
        # Side by side on a CPU, none waits for another's threads, of which decoding and answering take time, too.
        copies = (config.networks or 1) - 1 if self.classifier.backend.device == "cpu" else 0
        self.copies = [self.classifier, *(Classifier(unshared(checkpoint), config) for _ in range(copies))]
        self.checkpoint, self.config = checkpoint, config
        self.can_explain = config.heat_maps and isinstance(checkpoint, Checkpoint) and checkpoint.exported is None
        self._explainer: Classifier | None = None
        self._explaining = ThreadPoolExecutor(1, "explain", initializer=use_every_core)
        self._batches = Batches(
            [Worker(copy.predict_read, copy.fixed_weights()) for copy in self.copies],
            config.batch_size,
            WAITING,
            self._read,
            available_cpus(),
        )

    async def predict(self, upload: Upload, heat_map: bool) -> ImageResult:
        """Decode, compute and, where asked for, explain one image.

        Raises:
            Overloaded: too many images are waiting.
        """
        try:
            found = await self._batches.result(upload)
        except BadImage as bad:
            return ImageResult(file=upload.name, error=bad.reason)
        result = ImageResult(
            file=upload.name,
            probability=found.probability,
            prediction=found.class_name,
            positive=None if found.label is None else bool(found.label),
            verdict=found.verdict,
            reason=found.reason,
            familiarity=found.familiarity,
            quality=found.quality,
            quality_reason=found.quality_reason,
            spread=found.spread,
            eye=found.eye,
            eye_from=found.eye_from,
        )
        if heat_map and self.can_explain and found.label is not None:
            loop = asyncio.get_running_loop()
            result.heat_map = await loop.run_in_executor(self._explaining, self._heat_map, upload)
        return result

    def _read(self, upload: Upload) -> Read:
        """What the classifier takes of an image.

        Raises:
            BadImage: as `decoded`.
        """
        return Path(upload.name), {way: self._decoded(upload, way) for way in self.classifier.ways}

    def _decoded(self, upload: Upload, way: Preprocess) -> np.ndarray:
        return decoded(upload, way, int(self.config.max_megapixels * 1e6))

    def _heat_map(self, upload: Upload) -> str:
        if self._explainer is None:  # Paddle's own kernels give the gradients; most requests want none
            options = load_config(ExplainConfig, {"device": self.config.device})
            self._explainer = Classifier(self.checkpoint, options)
        last = list(layers_for(self._explainer.model).values())[-1]
        preprocess = self.classifier.preprocess
        seen = self._decoded(upload, preprocess)
        eye = preprocess.eye(seen, Path(upload.name))
        values = preprocess.normalise((aligned(seen, eye) if eye else seen)[None])
        (heat,), _ = grad_cam(self._explainer.model, last, values)
        if eye:  # mirrored back
            heat = aligned(heat, eye)
        shown = cv2.resize(seen, (SHOWN, SHOWN), interpolation=cv2.INTER_LINEAR)
        picture = cv2.imencode(".jpg", overlay(shown, heat), [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
        return "data:image/jpeg;base64," + base64.b64encode(picture).decode("ascii")

    def close(self) -> None:
        """End all threads."""
        self._batches.close()
        self._explaining.shutdown(cancel_futures=True)


def unshared(checkpoint: Networks) -> Networks:
    """The same with exported models of its own: they keep what they gave for their latest images."""
    members = tuple(load_checkpoint(each.path) if each.exported else each for each in checkpoint.members)
    return replace(checkpoint, members=members) if isinstance(checkpoint, Ensemble) else members[0]


def build_application(predictor: Predictor, config: ServeConfig, hosts: set[str]) -> Any:
    """The ASGI application.

    Args:
        hosts: the names under which the server may be reached.
    Raises:
        PmtrainError: FastAPI isn't installed.
    """
    try:
        import fastapi
        import python_multipart  # noqa: F401 (Starlette needs it to read forms)
        from fastapi.responses import HTMLResponse, JSONResponse
    except ImportError:
        raise missing_extra("pmtrain serve", "FastAPI", "serve") from None

    classifier = predictor.classifier
    info = classifier.info
    receiving = asyncio.Semaphore(config.max_uploads)

    @asynccontextmanager
    async def lifespan(_: Any):
        yield
        predictor.close()

    # FastAPI's own pages of the endpoints load scripts from other sites.
    app = fastapi.FastAPI(
        title="pmtrain", version=__version__, description=NOTICE, docs_url=None, redoc_url=None, lifespan=lifespan
    )

    async def predict(request: fastapi.Request, heat_map: bool = False) -> fastapi.Response:
        """Predict the class of one image or of several."""
        async with receiving:
            uploads = await read_uploads(request, config.max_images, int(config.max_mib * MEBIBYTE))
        try:
            work = asyncio.gather(*(predictor.predict(upload, heat_map) for upload in uploads))
            predictions = await asyncio.wait_for(work, config.timeout)
        except Overloaded:
            raise fastapi.HTTPException(503, "too many images are waiting; try again", {"retry-after": "1"}) from None
        except asyncio.TimeoutError:
            raise fastapi.HTTPException(503, f"no result within {config.timeout:g} s", {"retry-after": "5"}) from None
        result = Result(
            predictions=predictions,
            classes=info.class_names,
            threshold=classifier.threshold,
            weights_sha256=info.weights_sha256,
            synthetic=info.synthetic,
        )
        # FastAPI would check and convert the result once more.
        return fastapi.Response(result.model_dump_json(exclude_none=True), media_type="application/json")

    # FastAPI looks the class up by its name, which is known in this function alone.
    predict.__annotations__ |= {"request": fastapi.Request, "heat_map": bool, "return": fastapi.Response}
    binary = {"schema": {"type": "string", "format": "binary"}}
    form = {"type": "object", "properties": {"files": {"type": "array", "items": binary["schema"]}}}
    body = {"multipart/form-data": {"schema": form}, "image/*": binary, "application/octet-stream": binary}
    errors = {
        400: "the form can't be read, or holds no image",
        403: "sent from another site",
        408: "too slow",
        413: "too large, or too many images",
        415: "neither a form nor an image",
        421: "another host",
        503: "overloaded",
    }
    app.post(
        "/predict",
        response_model=Result,
        responses={status: {"description": reason} for status, reason in errors.items()},
        openapi_extra={"requestBody": {"required": True, "content": body}},
    )(predict)

    @app.get("/health", response_model=Health)
    async def health() -> Health:
        """Whether the server runs, and which model it has."""
        return Health(network=architecture(predictor.checkpoint), weights_sha256=info.weights_sha256)

    pages = partial(_page, predictor=predictor, config=config)

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(*pages("page.html.j2"))

    @app.get("/docs", response_class=HTMLResponse, include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(*pages("endpoints.html.j2", schema=app.openapi()))

    @app.exception_handler(Refusal)
    async def refused(_: fastapi.Request, refusal: Refusal) -> JSONResponse:
        return JSONResponse({"detail": refusal.reason}, refusal.status)

    refused.__annotations__.clear()
    return Guard(app, hosts, int(config.max_mib * MEBIBYTE), config.timeout)


def _page(template: str, predictor: Predictor, config: ServeConfig, **more: Any) -> tuple[str, int, dict[str, str]]:
    """A page, its status, and headers that allow it what it holds itself and nothing else."""
    import secrets

    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    source = resources.files(__package__)
    environment.globals["style"] = source.joinpath("page.css").read_text(encoding="utf-8")
    environment.globals["script"] = source.joinpath("page.js").read_text(encoding="utf-8")
    classifier, nonce = predictor.classifier, secrets.token_urlsafe(16)
    text = environment.from_string(source.joinpath(template).read_text(encoding="utf-8")).render(
        nonce=nonce,
        notice=NOTICE,
        version=__version__,
        info=classifier.info,
        network=architecture(predictor.checkpoint),
        threshold=classifier.threshold,
        limits=config,
        can_explain=predictor.can_explain,
        judges=classifier.domain is not None,
        columns=columns(classifier),
        gradient=css_gradient(),
        **more,
    )
    allowed = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src blob: data:;"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return text, 200, {"content-security-policy": allowed}
