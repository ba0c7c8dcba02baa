//go:build !(go1.26 && !go1.28 && (amd64 || arm64) && !hakmem_pin && !hakmem_nopin && !race && !asan && !msan)

package hakmem

// haveGetm is off: every call takes the slow path's road, which pins its P (or,
// with the tag hakmem_nopin, locks a front).
const haveGetm = false

const mP = 0

func getm() uintptr { return 0 }
