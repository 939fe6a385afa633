"""`python -m tissueseg`: what there is to run."""

from tissueseg import __version__

COMMANDS = {
    "prepare": "raw images and masks      -> a tissue store, checked",
    "pretrain": "stores of images          -> an encoder that learnt from them, without labels",
    "embed": "a store and an encoder    -> features of every tile, encoded once",
    "train": "a store (or the demo)     -> a decoder, its numbers and pictures",
    "evaluate": "a finished run            -> every score again, on any side of the split",
    "predict": "a finished run and images -> cells of whole tissues: outlines, types, tables",
    "report": "finished runs             -> which arm is best, if any: intervals, tests, a page",
    "doctor": "what train would be given -> what is missing, mismatched or fine",
    "export": "a store                   -> what napari or spatialdata open",
}


def main() -> None:
    """Print the commands."""
    print(f"tissueseg {__version__}: cell segmentation on frozen encoders, H&E and proteomics\n")
    for name, does in COMMANDS.items():
        print(f"  python -m tissueseg.{name:<10} {does}")
    print(
        "\nEach takes Hydra overrides (key=value, +experiment=name), --help, and -q: errors alone."
    )
    print("Begin with:  python -m tissueseg.train +experiment=boundary_att")


if __name__ == "__main__":
    main()
