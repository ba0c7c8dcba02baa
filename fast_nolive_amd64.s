//go:build go1.26 && !go1.28 && hakmem_nolive && !hakmem_pin && !hakmem_nopin && !race && !asan && !msan

#include "fast_amd64.h"
