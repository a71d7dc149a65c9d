"""The page and the endpoints, asked over HTTP."""

from __future__ import annotations

import base64
import contextlib
import io
import re
import tempfile

import cv2
import numpy as np
import pytest
from PIL import Image

from pmtrain import load_classifier
from pmtrain.config import ServeConfig, load_config
from pmtrain.runs.checkpoint import load_checkpoint

pytest.importorskip("fastapi")
pytest.importorskip("python_multipart")
httpx = pytest.importorskip("httpx")
testclient = pytest.importorskip("starlette.testclient")


@pytest.fixture(scope="module")
def client(checkpoint):
    from pmtrain.evaluation.inference.serving.application import Predictor, build_application

    config = load_config(ServeConfig, {"max_images": 3, "max_mib": 0.25, "max_megapixels": 0.01})
    predictor = Predictor(load_checkpoint(checkpoint), config)
    with testclient.TestClient(build_application(predictor, config, {"localhost"}), "http://localhost") as client:
        yield client


@pytest.fixture(scope="module")
def photographs(small_set):
    return sorted((small_set / "val").rglob("*.png"))


def sent(*files: tuple[str, bytes]) -> list:
    return [("files", file) for file in files]


def test_a_form_gives_the_probabilities_of_predict(client, checkpoint, photographs):
    expected = load_classifier(checkpoint).predict(photographs[:3])
    answer = client.post("/predict", files=sent(*((path.name, path.read_bytes()) for path in photographs[:3])))
    assert answer.status_code == 200
    told = answer.json()
    assert [each["file"] for each in told["predictions"]] == [path.name for path in photographs[:3]]
    found = [each["probability"] for each in told["predictions"]]
    np.testing.assert_allclose(found, [each.probability for each in expected], atol=1e-6)
    assert [each["prediction"] for each in told["predictions"]] == [each.class_name for each in expected]
    assert (told["classes"], told["threshold"], told["synthetic"]) == (["healthy", "sick"], 0.4, False)
    assert "not a medical device" in told["notice"]
    assert "heat_map" not in told["predictions"][0]


def test_an_image_can_be_the_body_itself(client, photographs):
    data = photographs[0].read_bytes()
    as_body = client.post("/predict", content=data, headers={"content-type": "image/png"}).json()
    as_form = client.post("/predict", files=sent(("a.png", data))).json()
    assert as_body["predictions"][0]["probability"] == pytest.approx(as_form["predictions"][0]["probability"], abs=1e-6)


def test_a_heat_map_where_it_is_asked_for(client, photographs):
    answer = client.post("/predict?heat_map=true", files=sent(("a.png", photographs[0].read_bytes())))
    kind, _, content = answer.json()["predictions"][0]["heat_map"].partition(",")
    assert kind == "data:image/jpeg;base64"
    assert cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_COLOR).shape == (320, 320, 3)


def test_a_bad_image_has_its_reason_and_the_others_their_result(client, photographs):
    data = photographs[0].read_bytes()
    files = sent(("a/../b<i>.png", b"no image"), ("cut.png", data[:-30]), ("good.png", data))
    first, second, third = client.post("/predict", files=files).json()["predictions"]
    assert first == {"file": "b<i>.png", "error": "not an image of a known format"}
    assert "truncated" in second["error"] and "probability" not in second
    assert 0 < third["probability"] < 1


@pytest.mark.parametrize("suffix", ["PNG", "JPEG", "TIFF", "WEBP", "BMP"])
def test_pixels_are_counted_before_they_are_decoded(client, suffix, monkeypatch):
    def of(side: int) -> dict:
        data = io.BytesIO()
        Image.new("RGB", (side, side)).save(data, suffix)
        return client.post("/predict", files=sent(("a", data.getvalue()))).json()["predictions"][0]

    assert "probability" in of(80)
    monkeypatch.setattr("pmtrain.data.images.read.ImageFile.decode", None)
    assert "at most 0.01 million" in of(120)["error"]


def test_bounds_of_a_request(client, photographs):
    data = photographs[0].read_bytes()
    assert client.post("/predict", files=sent(*[("a.png", data)] * 4)).status_code == 413
    large = client.post("/predict", content=b"x" * 300_000, headers={"content-type": "image/png"})
    assert large.status_code == 413
    assert client.post("/predict", files={"files": ("a.png", b"")}).json()["predictions"][0]["error"]
    assert client.post("/predict", data={"text": "no file"}).status_code == 415
    assert client.post("/predict", content=b"", headers={"content-type": "image/png"}).status_code == 400
    assert client.post("/predict", content=b"?", headers={"content-type": "multipart/form-data"}).status_code == 400


def test_nothing_of_an_upload_is_put_on_disk(client, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a file was made")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", refuse)
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    answer = client.post("/predict", files=sent(("a.png", b"x" * 200_000)))
    assert answer.json()["predictions"] == [{"file": "a.png", "error": "not an image of a known format"}]


def test_another_site_is_refused(client, photographs):
    files = sent(("a.png", photographs[0].read_bytes()))
    assert client.post("/predict", files=files, headers={"origin": "http://evil.example"}).status_code == 403
    assert client.get("/", headers={"host": "evil.example"}).status_code == 421


def test_the_page_loads_nothing_from_elsewhere(client):
    for path in ("/", "/docs"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert not re.search(r"""(src|href)=["']?(https?:)?//""", answer.text)
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'") and "unsafe" not in policy
    assert "sick or healthy?" in client.get("/").text
    assert 'data-columns="file probability prediction error familiarity verdict reason"' in client.get("/").text
    assert "not a medical device" in client.get("/").text


def test_each_copy_of_an_exported_model_is_one_of_its_own(checkpoint, tmp_path):
    """What a session gave for its latest images is kept beside it: two threads would mix theirs up."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from pmtrain.evaluation.inference.export.exporters import EXPORTERS, Source
    from pmtrain.evaluation.inference.serving.application import Predictor

    EXPORTERS["onnx"].write(tmp_path, Source(load_checkpoint(checkpoint)))
    config = load_config(ServeConfig, {"networks": 2, "device": "cpu"})
    with contextlib.closing(Predictor(load_checkpoint(tmp_path / "model.onnx"), config)) as predictor:
        first, second = (network.model for network in predictor.copies)
    assert first is not second and first.session is not second.session


def test_names_of_classes_are_escaped(checkpoint, tmp_path):
    import json
    import shutil

    from pmtrain.evaluation.inference.serving.application import Predictor, build_application

    info = json.loads(checkpoint.with_suffix(".json").read_text())
    shutil.copy(checkpoint, tmp_path)
    (tmp_path / "best.json").write_text(json.dumps(info | {"class_names": ["a", '"><script>x</script>']}))
    config = load_config(ServeConfig, {})
    predictor = Predictor(load_checkpoint(tmp_path / checkpoint.name), config)
    with testclient.TestClient(build_application(predictor, config, {"localhost"}), "http://localhost") as client:
        assert "<script>x" not in client.get("/").text


def test_health_and_the_description_of_the_endpoints(client):
    assert client.get("/health").json()["status"] == "ok"
    described = client.get("/openapi.json").json()
    assert set(described["paths"]) == {"/predict", "/health"}
    assert "multipart/form-data" in described["paths"]["/predict"]["post"]["requestBody"]["content"]
