"""Compiles crates/device/src/product.cu to product.ptx, which lorascope carries: users need NVIDIA's driver only.

    python3 -m pip install nvidia-cuda-nvrtc-cu12==12.1.105
    python3 scripts/make_ptx.py            writes product.ptx
    python3 scripts/make_ptx.py --check    compares instead; exit status 1 where they differ

The compiler is the run-time one of CUDA, which needs no card. Its version is fixed: PTX 8.1 is read by drivers from 530 on, and cards
from compute capability 7.0 (Volta) on run it.
"""

import ctypes
import importlib.metadata
import pathlib
import sys

VERSION = "12.1.105"
TARGET = "compute_70"
SOURCE = pathlib.Path(__file__).parent.parent / "crates/device/src/product.cu"


def library():
    package = importlib.metadata.distribution("nvidia-cuda-nvrtc-cu12")
    if package.version != VERSION:
        sys.exit(f"nvidia-cuda-nvrtc-cu12 is {package.version}; install {VERSION}")
    path = next(f for f in package.files if f.name.startswith("libnvrtc.so"))
    return ctypes.CDLL(str(package.locate_file(path)))


def compile_source():
    nvrtc = library()
    program = ctypes.c_void_p()
    source = SOURCE.read_bytes()
    check(nvrtc, nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, SOURCE.name.encode(), 0, None, None))
    options = [f"--gpu-architecture={TARGET}".encode(), b"--std=c++17"]
    status = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    if status:
        size = ctypes.c_size_t()
        nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        nvrtc.nvrtcGetProgramLog(program, log)
        sys.exit(log.value.decode())
    size = ctypes.c_size_t()
    check(nvrtc, nvrtc.nvrtcGetPTXSize(program, ctypes.byref(size)))
    ptx = ctypes.create_string_buffer(size.value)
    check(nvrtc, nvrtc.nvrtcGetPTX(program, ptx))
    return ptx.value.decode().rstrip() + "\n"


def check(nvrtc, status):
    if status:
        nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p
        sys.exit(nvrtc.nvrtcGetErrorString(status).decode())


def main():
    target = SOURCE.with_suffix(".ptx")
    ptx = compile_source()
    if "--check" not in sys.argv[1:]:
        target.write_text(ptx)
    elif target.read_text() != ptx:
        sys.exit(f"{target} is not what {SOURCE.name} compiles to; run scripts/make_ptx.py")


if __name__ == "__main__":
    main()
