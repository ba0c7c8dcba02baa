package engine

import (
	"fmt"
	"go/build"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
)

// withRoad chooses a road for the test by the policy in force, with slow exits that panic where
// those of the public package do. The fronts of all Ps begin anew, with and without owners.
func withRoad(t *testing.T) {
	t.Helper()
	old, oldExits, oldAddress := Road, exits, pAddress
	ChooseRoad(
		func(size uintptr) unsafe.Pointer { return Pointer(Malloc(0, mem.Bytes(size))) },
		func(p unsafe.Pointer) {
			if bad := Free(0, Block(p)); bad.Kind != OK {
				panic(fmt.Sprintf("%+v", bad))
			}
		})
	Trim()
	t.Cleanup(func() {
		Road, exits, pAddress = old, oldExits, oldAddress
		Trim()
	})
}

// nameOf returns a function's name without its package.
func nameOf(code uintptr) string {
	f := runtime.FuncForPC(code)
	if f == nil {
		return "none"
	}
	return strings.TrimPrefix(f.Name(), enginePrefix)
}

// TestChooseRoad: each setting has its road.
func TestChooseRoad(t *testing.T) {
	pinned := [2]string{"mallocPinned", "freePinned"}
	fast, sampled, hardened, profiled := pinned, pinned, pinned, pinned
	if HaveFast {
		if !verified() {
			t.Fatal("the fast section is off; see TestFastSectionInForce")
		}
		fast = [2]string{"mallocTiny", "freeTiny"}
		if canSample {
			sampled, profiled = [2]string{"mallocSampled", "freeTiny"}, [2]string{"mallocProfiled", "freeTiny"}
		}
	}
	callers := sampled
	both := pinned
	if !checkLive {
		callers, profiled, both = fast, fast, sampled
	}
	if canPin && checkLive && !raced {
		hardened = [2]string{"mallocHardened", "freeHardened"}
	}
	for _, x := range []struct {
		gates string
		want  [2]string
	}{
		{"", fast},
		{"HAKMEM_FRONT_FASTLANE=0", pinned},
		{"HAKMEM_GUARD=1/1000", sampled},
		{"HAKMEM_GUARD=1", fast}, // no front has anything to serve
		{"HAKMEM_HARDEN=1", hardened},
		{"HAKMEM_SITES=names", fast},
		{"HAKMEM_SITES=pc", callers},
		{"HAKMEM_SITES=pc/1", callers},
		{"HAKMEM_HARDEN=1 HAKMEM_SITES=pc", callers},
		{"HAKMEM_PROFILE_RATE=1", profiled},
		{"HAKMEM_PROFILE_RATE=524288", profiled},
		{"HAKMEM_PROFILE_RATE=524288 HAKMEM_HARDEN=1", profiled},
		{"HAKMEM_PROFILE_RATE=524288 HAKMEM_GUARD=1", profiled},
		{"HAKMEM_PROFILE_RATE=524288 HAKMEM_GUARD=1/1000", both},
	} {
		t.Run(x.gates, func(t *testing.T) {
			gates := map[string]string{}
			for _, gate := range strings.Fields(x.gates) {
				name, value, _ := strings.Cut(gate, "=")
				gates[name] = value
			}
			withPolicy(t, gates)
			withRoad(t)
			got := [2]string{nameOf(**(**uintptr)(unsafe.Pointer(&Road.Malloc))), nameOf(**(**uintptr)(unsafe.Pointer(&Road.Free)))}
			if got != x.want || Road.Fast != (x.want != pinned && x.want != hardened) {
				t.Errorf("the road is %v, fast %v, want %v", got, Road.Fast, x.want)
			}
		})
	}
}

// TestUnverified: a fast section that does not find its P is not taken.
func TestUnverified(t *testing.T) {
	withPolicy(t, nil)
	defer func(old func() bool) { verified = old }(verified)
	for _, found := range []bool{true, false} {
		verified = func() bool { return found }
		withRoad(t)
		if Road.Fast != (HaveFast && found) {
			t.Errorf("the P was found: %v; the road is the fast section: %v", found, Road.Fast)
		}
	}
}

// atNoAddress reads an address that nobody has mapped, as a section with wrong offsets may.
//
//go:nocheckptr
func atNoAddress() bool { return *u8(8) == 1 }

// TestHoldsOnPs: one wrong answer among many is a no, and so is a fault.
func TestHoldsOnPs(t *testing.T) {
	var asked atomic.Int32
	for _, x := range []struct {
		what string
		ask  func() bool
		want bool
	}{
		{"always yes", func() bool { return true }, true},
		{"once no", func() bool { return asked.Add(1) != 150 }, false},
		{"a panic", func() bool { panic("no P") }, false},
		{"a fault", atNoAddress, false},
	} {
		if got := holdsOnPs(2, x.ask); got != x.want {
			t.Errorf("%s: %v", x.what, got)
		}
	}
}

// notP is memory that is not a P.
var notP [2]uint64

// TestFindsP: only a P that is found twice is taken for one, and no wrong address ends the process.
func TestFindsP(t *testing.T) {
	if !canPin {
		t.Skip("skipped: this build does not pin")
	}
	gone, err := osmem.Reserve(pageSize) // cannot be read
	if err != nil {
		t.Fatal(err)
	}
	defer osmem.Release(gone, pageSize)
	bad := map[string]uintptr{"nil": 0, "the first page": 8, "not aligned": uintptr(gone) + 4, "cannot be read": uintptr(gone), "not a P": uintptr(unsafe.Pointer(&notP))}
	for what, p := range bad {
		if holdsOnPs(1, func() bool { return findsP(func() [2]uintptr { return [2]uintptr{p, p} }) }) {
			t.Errorf("%s: taken for the P", what)
		}
		if !HaveFast {
			continue
		}
		for i := range 2 {
			if holdsOnPs(1, func() bool {
				return findsP(func() [2]uintptr {
					at := currentP()
					at[i] = p
					return at
				})
			}) {
				t.Errorf("%s at the %dth place: taken for the P", what, i)
			}
		}
	}
	if holdsOnPs(1, func() bool { return findsP(func() [2]uintptr { return [2]uintptr{uintptr(*u8(gone)), 0} }) }) {
		t.Error("a search that faults found the P")
	}
	if holdsOnPs(1, func() bool {
		return findsP(func() [2]uintptr {
			notP[0] = uint64(Pin())
			Unpin()
			at := uintptr(unsafe.Pointer(&notP))
			return [2]uintptr{at, at}
		})
	}) {
		t.Error("the number of the P and another status: taken for the P")
	}
	if HaveFast && !holdsOnPs(4, func() bool { return findsP(currentP) }) {
		t.Error("the P was not found; see TestFastSectionInForce")
	}
}

// TestRoadOfBuild reads the build lines of the road's files: the version of Go, the system,
// the architecture and the tags of a build decide which of the files it has.
func TestRoadOfBuild(t *testing.T) {
	const both = "road.go road_pinned.go"
	const pins = both + " road_none.go"
	const amd64, arm64 = both + " road_amd64.go road_live_amd64.s road_p.go ", both + " road_arm64.go road_p.go "
	for _, x := range []struct {
		minor int // of Go 1
		os    string
		arch  string
		tags  string
		want  string
	}{
		{26, "linux", "amd64", "", amd64 + "road_p_unix.go"},
		{27, "linux", "amd64", "", amd64 + "road_p_unix.go"},
		{27, "linux", "amd64", "hakmem_nolive", both + " road_amd64.go road_nolive_amd64.s road_p.go road_p_unix.go"},
		{26, "linux", "arm64", "", arm64 + "road_p_unix.go"},
		{27, "linux", "arm64", "hakmem_nolive", arm64 + "road_p_unix.go"},
		{26, "linux", "riscv64", "", pins},
		{26, "linux", "riscv64", "hakmem_untested_go", pins},
		{28, "linux", "amd64", "", pins},
		{28, "linux", "arm64", "", pins},
		{28, "linux", "amd64", "hakmem_untested_go", amd64 + "road_p_unix.go"},
		{28, "linux", "amd64", "hakmem_untested_go hakmem_nolive", both + " road_amd64.go road_nolive_amd64.s road_p.go road_p_unix.go"},
		{28, "linux", "arm64", "hakmem_untested_go", arm64 + "road_p_unix.go"},
		{28, "linux", "amd64", "hakmem_untested_go hakmem_pin", pins},
		{28, "linux", "amd64", "hakmem_untested_go race", pins},
		{26, "linux", "amd64", "hakmem_pin", pins},
		{26, "linux", "arm64", "hakmem_nopin", pins},
		{26, "linux", "amd64", "race", pins},
		{26, "linux", "arm64", "asan", pins},
		{26, "linux", "amd64", "msan", pins},
		{27, "darwin", "arm64", "", arm64 + "road_p_unix.go"},
		{27, "darwin", "amd64", "", amd64 + "road_p_unix.go"},
		{26, "freebsd", "amd64", "", amd64 + "road_p_freebsd.go"},
		{26, "freebsd", "arm64", "", arm64 + "road_p_freebsd.go"},
		{26, "freebsd", "riscv64", "", pins},
		{26, "windows", "amd64", "", amd64 + "road_p_windows.go"},
		{27, "windows", "arm64", "", arm64 + "road_p_windows.go"},
		{28, "windows", "amd64", "", pins},
		{26, "windows", "amd64", "race", pins},
	} {
		c := build.Default
		c.GOOS, c.GOARCH, c.BuildTags, c.ReleaseTags = x.os, x.arch, strings.Fields(x.tags), nil
		c.ToolTags = slices.DeleteFunc(slices.Clone(c.ToolTags), func(tag string) bool { return tag == "race" || tag == "asan" || tag == "msan" })
		for v := range x.minor {
			c.ReleaseTags = append(c.ReleaseTags, fmt.Sprintf("go1.%d", v+1))
		}
		files, err := filepath.Glob("road*.[gs]*")
		if err != nil || len(files) < 11 {
			t.Fatalf("%v of the road's files: %v", files, err)
		}
		var has []string
		for _, f := range files {
			if strings.HasSuffix(f, "_test.go") {
				continue
			}
			ok, err := c.MatchFile(".", f)
			if err != nil {
				t.Fatal(err)
			}
			if ok {
				has = append(has, f)
			}
		}
		want := strings.Fields(x.want)
		slices.Sort(want)
		slices.Sort(has)
		if !slices.Equal(has, want) {
			t.Errorf("Go 1.%d, %s/%s, tags %q: the road is %v, want %v", x.minor, x.os, x.arch, x.tags, has, want)
		}
	}
}
