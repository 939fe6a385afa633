"""The named baseline of ingestion: a TIFF copied to Zarr by tifffile and zarr, shard by shard."""

import sys

import tifffile
import zarr
from zarr.codecs import BloscCodec

from tissueseg.store.layout import CHUNK_PX, shard_px, windows

source = zarr.open_array(tifffile.imread(sys.argv[1], aszarr=True), mode="r")
shard = shard_px(source.shape[0], source.shape[1:])
target = zarr.create_array(
    sys.argv[2],
    shape=source.shape,
    dtype=source.dtype,
    chunks=(source.shape[0], CHUNK_PX, CHUNK_PX),
    shards=(source.shape[0], *shard),
    compressors=BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle"),
)
for y, x, height, width in windows(source.shape[1:], shard):
    part = (..., slice(y, y + height), slice(x, x + width))
    target[part] = source[part]
