package learn

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
	"unsafe"
)

// testCosts are those of a page of 64 KiB where a fault takes 0.75 µs for 4 KiB and a GiB·s costs 0.1 s
// of CPU time. Break-even is 2.3 s.
var testCosts = Costs{Fault: 12e-6, Return: 2e-6, Hold: 0.1 / 16384}

func TestBreakEven(t *testing.T) {
	if got := testCosts.BreakEven(); got.Round(ms) != 2294*ms {
		t.Errorf("break-even = %v", got)
	}
	for _, c := range []Costs{{}, {Fault: 1}, {Hold: 1}, {Fault: -1, Return: 2, Hold: 1}, {Fault: math.NaN(), Hold: 1}, {Fault: 1, Hold: math.Inf(1)}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("New(%+v) does not panic", c)
				}
			}()
			New(c)
		}()
	}
}

func TestBin(t *testing.T) {
	for wait := time.Duration(0); wait < 70*time.Second; wait += ms {
		k := bin(wait)
		if k < nArms && Arms[k] < wait || k > 0 && Arms[k-1] >= wait {
			t.Fatalf("%v is in bin %d", wait, k)
		}
	}
	if k := bin(1<<31*ms - ms); k != nArms {
		t.Errorf("a long wait is in bin %d", k)
	}
}

// TestCost: what each arm would have cost is the sum of what it would have cost on each wait.
func TestCost(t *testing.T) {
	m := New(testCosts)
	c, long := testCosts, m.long
	on := func(h, wait time.Duration) float64 {
		if wait <= h {
			return wait.Seconds() * c.Hold
		}
		return h.Seconds()*c.Hold + c.Return + c.Fault
	}
	waits := []time.Duration{0, 50 * ms, 100 * ms, 101 * ms, 3 * time.Second, 9 * time.Second, 10 * time.Second, 70 * time.Second}
	for i, wait := range waits {
		m := New(testCosts)
		m.Freed(5, 1, 0)
		if wait >= long+scanShare*ms {
			m.Tick(long) // now it is open
		}
		m.Taken(5, 1, wait)
		m.Tick(wait)
		cost := m.cost(&m.all)
		for a, h := range Arms {
			want := on(h, wait)
			if math.Abs(cost[a]-want) > 1e-9*want+1e-15 {
				t.Errorf("wait %d of %v: hold time %v costs %g, want %g", i, wait, h, cost[a], want)
			}
		}
	}
	// One that goes on costs what it has cost so far.
	m.Freed(5, 1, 0)
	m.Tick(long + 1000*ms)
	for a, h := range Arms {
		want := h.Seconds()*c.Hold + c.Return
		if h >= long {
			want = long.Seconds() * c.Hold
		}
		if got := m.cost(&m.all)[a]; math.Abs(got-want) > 1e-9*want+1e-15 {
			t.Errorf("an open wait: hold time %v costs %g, want %g", h, got, want)
		}
	}
}

// played returns the least and the most of the hold times in the band of a page.
func played(m *Model, page uint32) (least, most time.Duration) {
	least = math.MaxInt64
	for i := range uint32(64) {
		h := m.Hold(page + i*ChunkPages)
		least, most = min(least, h), max(most, h)
	}
	return least, most
}

// TestLearns: short waits are kept through, long ones are not kept at all, and each band has its own.
func TestLearns(t *testing.T) {
	const pages = Bands * 64 * ChunkPages
	m := New(testCosts)
	m.Freed(0, pages, 0)
	m.Taken(0, pages, 0)
	if least, most := played(m, 0); least < 450*ms || most > 11*time.Second {
		t.Errorf("before anything was learnt, hold times are %v to %v, break-even %v", least, most, testCosts.BreakEven())
	}
	low, high := uint32(0), uint32(pages-64*ChunkPages)
	now := time.Duration(0)
	for i := range 400 {
		m.Freed(low, 64*ChunkPages, now)
		if i%100 == 0 {
			m.Taken(high, 64*ChunkPages, now)
			m.Freed(high, 64*ChunkPages, now+200*ms)
		}
		now += 500 * ms
		m.Taken(low, 64*ChunkPages, now)
		now += 100 * ms
		m.Tick(now)
	}
	if least, _ := played(m, low); least < 500*ms {
		t.Errorf("pages that wait 0.5 s are kept for %v", least)
	}
	if _, most := played(m, low); most > 4*time.Second {
		t.Errorf("pages that wait 0.5 s are kept for up to %v: after the last wait in vain", most)
	}
	if _, most := played(m, high); most > 100*ms {
		t.Errorf("pages that wait for a minute are kept for %v", most)
	}
	if h := m.Hold(2 * 64 * ChunkPages); h > 64*time.Second {
		t.Error(h)
	}
}

// TestMean: the mean hold time is that of the chunks.
func TestMean(t *testing.T) {
	const chunks = Bands * 1000
	m := New(testCosts)
	m.Freed(0, chunks*ChunkPages, 0)
	for i := range time.Duration(20) {
		m.Taken(0, chunks/2*ChunkPages, i*time.Second)
		m.Freed(0, chunks/2*ChunkPages, i*time.Second)
		m.Tick(i * time.Second)
	}
	sum := time.Duration(0)
	for c := range uint32(chunks) {
		sum += m.Hold(c * ChunkPages)
	}
	if got, want := m.Mean().Seconds(), (sum / chunks).Seconds(); math.Abs(got-want) > 0.02*want {
		t.Errorf("the mean is %g s, want %g", got, want)
	}
}

// TestPrice: what was learnt is judged by the costs in force.
func TestPrice(t *testing.T) {
	m := New(testCosts)
	for i := range time.Duration(200) {
		m.Freed(0, ChunkPages, i*5*time.Second)
		m.Taken(0, ChunkPages, i*5*time.Second+4*time.Second)
		m.Tick(i * 5 * time.Second)
	}
	if h := m.Hold(0); h > 0 {
		t.Errorf("waits of 4 s are longer than break-even, and their pages are kept for %v", h)
	}
	cheap := testCosts
	cheap.Hold /= 10
	m.SetCosts(cheap)
	if h := m.Hold(0); h < 4*time.Second || m.Costs() != cheap {
		t.Errorf("break-even is now %v, and pages are kept for %v", cheap.BreakEven(), h)
	}
}

// TestForgets: a new regime replaces what was learnt of the old one.
func TestForgets(t *testing.T) {
	m := New(testCosts)
	now := time.Duration(0)
	rounds := func(n int, wait time.Duration) {
		for range n {
			m.Freed(0, ChunkPages, now)
			for end := now + wait; now < end; now += 100 * ms {
				m.Tick(now)
			}
			m.Taken(0, ChunkPages, now)
			m.Tick(now)
		}
	}
	rounds(300, 500*ms)
	if h := m.Hold(0); h < 500*ms {
		t.Fatalf("waits of 0.5 s, kept for %v", h)
	}
	rounds(20, 20*time.Second)
	if h := m.Hold(0); h >= 500*ms {
		t.Errorf("after 20 waits of 20 s pages are kept for %v", h)
	}
	rounds(60, 500*ms)
	if h := m.Hold(0); h < 500*ms {
		t.Errorf("after 60 waits of 0.5 s pages are kept for %v", h)
	}
}

// TestStamps: the time since a stamp is right for 24 days, however often stamps have wrapped. A stamp
// that is later than now counts as now.
func TestStamps(t *testing.T) {
	for _, at := range []time.Duration{0, ms, 1 << 30 * ms, (1<<31 - 2) * ms, (1<<31 - 1) * ms, 1 << 31 * ms, (1<<32 + 5) * ms} {
		for _, wait := range []time.Duration{0, ms, 1000 * ms, 12 * 24 * time.Hour, 24 * 24 * time.Hour} {
			if got := since(stampOf(at), at+wait); got != wait {
				t.Errorf("%v after %v: %v", wait, at, got)
			}
		}
		if s := stampOf(at); s == 0 || s&open != 0 && s != open || since(stampOf(at+1000*ms), at) != 0 {
			t.Errorf("at %v: %#x", at, s)
		}
	}
}

// TestSince: which pages wait, and for how long.
func TestSince(t *testing.T) {
	m := New(testCosts)
	if _, waits := m.Since(7, 0); waits {
		t.Error("a page that nobody freed waits")
	}
	m.Freed(blockPages-1, 2, 3*time.Second)
	for _, page := range []uint32{blockPages - 1, blockPages} {
		if wait, waits := m.Since(page, 5*time.Second); !waits || wait != 2*time.Second {
			t.Errorf("page %d waits %v, %t", page, wait, waits)
		}
	}
	m.Freed(blockPages, 1, 4*time.Second)
	if wait, _ := m.Since(blockPages, 5*time.Second); wait != time.Second {
		t.Errorf("freed again, a page waits %v", wait)
	}
	m.Taken(blockPages-1, 2, 6*time.Second)
	for page := range uint32(3 * blockPages) {
		if _, waits := m.Since(page, 7*time.Second); waits {
			t.Errorf("page %d waits", page)
		}
	}
	m.Tick(8 * time.Second)
	if n := m.all.mass(); n != 2 {
		t.Errorf("%v waits were seen, want those of the two pages that were taken", n)
	}
}

func TestSnapshot(t *testing.T) {
	m := New(testCosts)
	for i := range time.Duration(50) {
		m.Freed(0, 10*ChunkPages, i*3*time.Second)
		m.Taken(0, 9*ChunkPages, i*3*time.Second+300*ms)
		m.Tick(i * 3 * time.Second)
	}
	m.Tick(1000 * time.Second)
	text, err := json.Marshal(m.Snapshot())
	if err != nil {
		t.Fatal(err)
	}
	var s Snapshot
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	other := New(testCosts)
	if err := other.Restore(s); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(m.Snapshot(), other.Snapshot()) || m.share != other.share {
		t.Error("a Model that was restored differs")
	}
	for _, bad := range []struct {
		says string
		do   func(*Snapshot)
	}{
		{"bands", func(s *Snapshot) { s.Bands = s.Bands[1:] }},
		{"band 3", func(s *Snapshot) { s.Bands[3].Late = nil }},
		{"band 4", func(s *Snapshot) { s.Bands[4].Open = -1 }},
		{"all bands", func(s *Snapshot) { s.All.EndedSeconds[2] = math.NaN() }},
		{"all bands", func(s *Snapshot) { s.All.Ended[2] = math.Inf(1) }},
	} {
		s := m.Snapshot()
		bad.do(&s)
		was := other.Snapshot()
		if err := other.Restore(s); err == nil || !strings.Contains(err.Error(), bad.says) {
			t.Errorf("a damaged snapshot: %v, want one about %s", err, bad.says)
		}
		if !reflect.DeepEqual(was, other.Snapshot()) {
			t.Error("a damaged snapshot changed the Model")
		}
	}
}

// TestMemory: a Model takes 4 bytes for each page, and at most 64 KiB.
func TestMemory(t *testing.T) {
	if n := unsafe.Sizeof(Model{}); n > 64<<10 {
		t.Errorf("a Model takes %d bytes", n)
	}
	m := New(testCosts)
	m.Freed(0, 1<<14, 0)
	if n := testing.AllocsPerRun(100, func() {
		m.Freed(0, 1<<14, 0)
		m.Taken(0, 1<<14, 1)
		m.Tick(1)
		m.Hold(77)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkFreedTaken(b *testing.B) {
	b.ReportAllocs()
	m := New(testCosts)
	for i := range b.N {
		m.Freed(0, ChunkPages, time.Duration(i)*ms)
		m.Taken(0, ChunkPages, time.Duration(i)*ms+300*ms)
	}
}

func BenchmarkTick(b *testing.B) {
	b.ReportAllocs()
	m := New(testCosts)
	for i := range b.N {
		for band := range uint32(Bands) {
			m.Freed(band*ChunkPages, 1, 0)
			m.Taken(band*ChunkPages, 1, 300*ms)
		}
		m.Tick(time.Duration(i) * ms)
	}
}

func BenchmarkHold(b *testing.B) {
	b.ReportAllocs()
	m := New(testCosts)
	m.Freed(0, 1<<14, 0)
	for i := range b.N {
		m.Hold(uint32(i) & (1<<14 - 1))
	}
}

// TestVeryLongWaits: a wait of weeks is one that is longer than all arms.
func TestVeryLongWaits(t *testing.T) {
	m := New(testCosts)
	for _, wait := range []time.Duration{Arms[nArms-1], Arms[nArms-1] + ms, 1 << 31 * ms, 1<<32*ms + ms, math.MaxInt64} {
		m.Waited(0, 1, wait)
	}
	if n := m.fresh[0].ended.n; n[nArms-1] != 1 || n[nArms] != 4 {
		t.Errorf("waits by bin: %v", n)
	}
}

// TestCostsBeyondReason: costs whose break-even time is no number, or of no use, are refused.
func TestCostsBeyondReason(t *testing.T) {
	for _, c := range []Costs{{1e308, 1e308, 1}, {1e-300, 0, 1e300}, {1, 1, 0}, {0, 0, 1}, {1, 1, 1e-10}, {1e-8, 0, 1}} {
		if c.valid() {
			t.Errorf("%+v is valid; break-even %v", c, c.BreakEven())
		}
	}
}
