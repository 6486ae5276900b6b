"""Constants of Whisper's audio front end. They are the same for every checkpoint."""

SAMPLE_RATE = 16_000  # Hz, mono
N_FFT = 400  # samples in the window of the log-mel transform: 25 ms
HOP_LENGTH = 160  # samples from one log-mel frame to the next: 10 ms
FRAMES_PER_SECOND = SAMPLE_RATE // HOP_LENGTH  # 100
CHUNK_SECONDS = 30  # s of audio that the model takes at a time: a window
N_FRAMES = CHUNK_SECONDS * FRAMES_PER_SECOND  # log-mel frames of a window: 3000
ENCODER_STRIDE = 2  # log-mel frames to one position of the encoder's output
TIME_PRECISION = ENCODER_STRIDE * HOP_LENGTH / SAMPLE_RATE  # s from one timestamp to the next: 0.02
