"""The size of mp3 and AAC frames: the only way to see whether the last frame of such a file is complete."""

HEAD = 6  # bytes of a frame that give its size
AAC, LAYER_3, MPEG_1 = 0, 1, 3  # values of the header's layer and version fields
MPEG_RATES = (44100, 48000, 32000)  # Hz
HALVED = {MPEG_1: 0, 2: 1, 0: 2}  # how often MPEG_RATES are halved, by version: MPEG 2 once, 2.5 twice
MPEG_1_KILOBITS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)
MPEG_2_KILOBITS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0)


def frame_size(head: bytes) -> int:
    """Bytes of the mp3 or AAC frame that begins with `head`; 0 if it is no frame, 1 if its size is unknown.

    Sources: ISO/IEC 11172-3, 2.4.1.3, and 13818-7, 6.2.
    """
    if head[0] != 0xFF or head[1:2] < b"\xe0":  # noqa: PLR2004  the sync word
        return 0
    if len(head) < HEAD:
        return HEAD
    version, layer, rate = head[1] >> 3 & 3, head[1] >> 1 & 3, head[2] >> 2 & 3
    if layer == AAC:
        return (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    if layer != LAYER_3 or rate == len(MPEG_RATES) or version not in HALVED:
        return 1
    first = version == MPEG_1
    bits = (MPEG_1_KILOBITS if first else MPEG_2_KILOBITS)[head[2] >> 4] * 1000
    if bits == 0:  # free format: the frame lasts up to the next one
        return 1
    return (144 if first else 72) * bits // (MPEG_RATES[rate] >> HALVED[version]) + (head[2] >> 1 & 1)
