"""What an ensemble predicts, as files of others' formats: an object per format, one registration.

    png        <out>/<unit>/<frame>.png, <out>/<unit>.png of single images
    npy        <out>/<unit>.npy, [T, H, W]
    nifti      <out>/<unit>.nii.gz, [Z, Y, X] under its affine
    geotiff    <out>/<unit>.tif, in its coordinates
    nnunet     <out>/<unit>.nii.gz or .png, .npz, dataset.json
    zarr       <out> a group, an array a unit
    store      <out> a logit store of the fused probabilities
    npz        <out>/<unit>.npz, probabilities [C, Z, Y, X]
    uncertainty  <out>/<kind>/<unit>/<frame>.png, entropy, margin, confidence, disagreement
    pseudo     as png, the certain pixels of every class alone
    overlay    <out>/<unit>/<frame>.png, classes drawn over the pictures
    gif, mp4   <out>/<unit>.gif or .mp4, the same moving

A unit is a video, a single image or a 3D case; its frames come in the order of the stores. A new
format is a file with a frozen dataclass of `Output`, and its name in OUTPUTS; its tests are
`OutputContract`'s. What servers take is in `fusion.outputs.submission`.
"""

from fusion.outputs.names import safe_name
from fusion.outputs.output import Output
from fusion.outputs.registry import OUTPUTS, output_options
from fusion.outputs.run import Written, write
from fusion.outputs.submission import SUBMISSIONS, submit

__all__ = ["OUTPUTS", "SUBMISSIONS", "Output", "Written", "output_options", "safe_name", "submit"]
__all__ += ["write"]
