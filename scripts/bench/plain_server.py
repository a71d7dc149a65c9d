"""A model behind an endpoint as most people write it: FastAPI and onnxruntime, one image a request.

  python plain_server.py MODEL.onnx SIDE   prints the address when it listens

The model takes `notes` preprocessing: the whole image, stretched to the square, BGR, value / 255 x 2 - 1.
"""

from __future__ import annotations

import socket
import sys

import cv2
import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI, File, UploadFile

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
side = int(sys.argv[2])
app = FastAPI()
UPLOAD = File(...)


@app.post("/predict")
async def predict(files: UploadFile = UPLOAD):
    image = cv2.imdecode(np.frombuffer(await files.read(), np.uint8), cv2.IMREAD_COLOR)
    values = cv2.resize(image, (side, side)).astype(np.float32) / 255 * 2 - 1
    values = np.ascontiguousarray(values.transpose(2, 0, 1)[None])
    (probability,) = session.run(["probability"], {"image": values})
    return {"probability": float(probability[0, 0])}


if __name__ == "__main__":
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(512)
    print(f"http://127.0.0.1:{listening.getsockname()[1]}/", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listening])
