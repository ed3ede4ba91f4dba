"""flux_step_512's weights under the names of Black Forest Labs, which stable-diffusion.cpp loads: work/flux_step_bfl."""

import sys
from pathlib import Path

from safetensors.torch import load_file, save_file

BENCH = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(BENCH), str(BENCH.parent / "fixtures")]

from bfl_names import transformer_to_bfl
from rows import flux_step_512

TARGET = BENCH / "work" / "flux_step_bfl" / "flux_step.safetensors"


def main():
    if TARGET.exists():
        return
    if not (flux_step_512.FOLDER / "inputs.st").exists():
        flux_step_512.write()
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    tensors = transformer_to_bfl(load_file(flux_step_512.FOLDER / "diffusion_pytorch_model.safetensors"))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, TARGET)


if __name__ == "__main__":
    main()
