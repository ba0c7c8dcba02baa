//go:build ((go1.26 && !go1.28) || hakmem_untested_go) && hakmem_nolive && !hakmem_pin && !hakmem_nopin && !race && !asan && !msan

#include "road_amd64.h"
