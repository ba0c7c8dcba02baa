package main

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/asan"
)

// TestMain makes the test binary act as the child process that runParent starts.
func TestMain(m *testing.M) {
	if slices.Contains(os.Args, "-child") {
		main()
	}
	os.Exit(m.Run())
}

func TestParseSize(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want int64
	}{
		{"0", 0}, {"1", 1}, {"65536", 65536}, {"7B", 7}, {"12 b", 12},
		{"1KiB", 1 << 10}, {"64kib", 64 << 10}, {"512MiB", 512 << 20}, {"2GiB", 2 << 30}, {" 2 GiB ", 2 << 30}, {"3TiB", 3 << 40},
		{"5kB", 5000}, {"5KB", 5000}, {"500MB", 500e6}, {"2gb", 2e9}, {"1TB", 1e12},
		{"9223372036854775807", math.MaxInt64}, {"8388607TiB", 8388607 << 40},
	} {
		got, err := parseSize(tc.in)
		if err != nil || int64(got) != tc.want {
			t.Errorf("parseSize(%q) = %d, %v; want %d", tc.in, int64(got), err, tc.want)
			continue
		}
		if again, err := parseSize(got.String()); err != nil || again != got {
			t.Errorf("parseSize(%q) = %d, %v; want %d again", got.String(), int64(again), err, tc.want)
		}
	}
	for _, in := range []string{
		"", " ", "GiB", "B", "-1", "-1GiB", "+1", "1.5GiB", "2G", "2GiBs", "0x10", "1e9", "1_000", "two", "2GiB 3",
		"9223372036854775808", "8388608TiB", "99999999999999999999",
	} {
		if got, err := parseSize(in); err == nil || !strings.Contains(err.Error(), in) {
			t.Errorf("parseSize(%q) = %d, %v; want an error that names the input", in, int64(got), err)
		}
	}
}

func TestHuman(t *testing.T) {
	for bytes, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 2 << 30: "2 GiB", 1234567: "1.177 MiB"} {
		if got := human(bytes); got != want {
			t.Errorf("human(%d) = %q, want %q", bytes, got, want)
		}
	}
}

func TestBadInput(t *testing.T) {
	for _, tc := range []struct {
		args string
		says []string // parts of the message: the flag or value, and the remedy
	}{
		{"-bytes 2G", []string{`"2G"`, "-bytes", "2GiB"}},
		{"-bytes lots", []string{`"lots"`, "-bytes", "2GiB"}},
		{"-bytes 1000", []string{"-bytes 1000", "1MiB"}},
		{"-bytes -5MiB", []string{"-5MiB", "whole number"}},
		{"-bytes 8000000TiB", []string{"-bytes", "shard"}},
		{"-seconds 0", []string{"-seconds 0", "more than 0"}},
		{"-seconds NaN", []string{"-seconds NaN", "more than 0"}},
		{"-seconds soon", []string{`"soon"`, "-seconds"}},
		{"-goroutines 0", []string{"-goroutines 0", "1 to"}},
		{"-goroutines 99999", []string{"-goroutines 99999", "1 to"}},
		{"-read 80", []string{"-read 80", "0.8"}},
		{"-read NaN", []string{"-read NaN", "0.8"}},
		{"-min 0", []string{"-min 0", "at least 1 byte"}},
		{"-min 2KiB -max 1KiB", []string{"-max 1KiB", "-min", "2KiB"}},
		{"-max 512MiB", []string{"-max 512MiB", "lower -max or raise -bytes"}},
		{"-backend rust", []string{`"rust"`, "hakmem, go or both"}},
		{"-backend both -child", []string{`"both"`, "hakmem, go or both"}},
		{"2GiB", []string{`"2GiB"`, "flags"}},
		{"-nonsense", []string{"-nonsense", "-help"}},
	} {
		var stdout, stderr bytes.Buffer
		if code := start(strings.Fields(tc.args), &stdout, &stderr); code != 2 {
			t.Errorf("%s: exit status %d, want 2", tc.args, code)
		}
		for _, part := range tc.says {
			if !strings.Contains(stderr.String(), part) {
				t.Errorf("%s: the message does not say %q: %s", tc.args, part, &stderr)
			}
		}
		if stdout.Len() > 0 {
			t.Errorf("%s: prints %q", tc.args, &stdout)
		}
	}
}

func TestHelp(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := start([]string{"-help"}, &stdout, &stderr); code != 0 || stderr.Len() > 0 {
		t.Errorf("exit status %d, stderr %q", code, &stderr)
	}
	for _, part := range []string{"-bytes size", "-backend", "default 256MiB", "default 16KiB"} {
		if !strings.Contains(stdout.String(), part) {
			t.Errorf("help does not say %q:\n%s", part, &stdout)
		}
	}
}

// TestProgram runs both backends in processes of their own.
func TestProgram(t *testing.T) {
	var stdout, stderr bytes.Buffer
	code := start([]string{"-bytes=2MiB", "-seconds=0.01", "-goroutines=2", "-max=4KiB"}, &stdout, &stderr)
	if code != 0 {
		t.Fatalf("exit status %d: %s", code, &stderr)
	}
	for _, part := range []string{"2MiB cache, values of 64 to 4KiB, 80 % reads", "hakmem", "operations / s", "GC share of CPU", "hakmem against go"} {
		if !strings.Contains(stdout.String(), part) {
			t.Errorf("the table does not say %q:\n%s", part, &stdout)
		}
	}
}

var testConfig = config{bytes: 4 << 20, seconds: 1, goroutines: 3, min: 64, max: 16 << 10, read: 0.8}

// afterSteps ends a load after the given number of steps of all goroutines together.
func afterSteps(n int64) func() func() bool {
	return func() func() bool {
		var left atomic.Int64
		left.Store(n)
		return func() bool { return left.Add(-1) >= 0 }
	}
}

func TestRun(t *testing.T) {
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			r, err := b.run(testConfig, afterSteps(20_000))
			if err != nil {
				t.Fatal(err)
			}
			if r.Hits+r.Misses+r.Sets != r.Ops || r.Ops < 20_000 {
				t.Errorf("%d hits + %d misses + %d sets are not %d operations", r.Hits, r.Misses, r.Sets, r.Ops)
			}
			if r.BlockBytes > int64(testConfig.bytes) || r.BlockBytes < int64(testConfig.bytes)*9/10 {
				t.Errorf("the cache holds %d bytes; its limit is %v", r.BlockBytes, &testConfig.bytes)
			}
			if r.Evictions == 0 || r.Hits == 0 || r.Misses == 0 || r.ValueBytes >= r.BlockBytes || r.Worst < r.P999 || r.P999 < r.P50 {
				t.Errorf("implausible: %+v", r)
			}
		})
	}
}

// TestCorruptionStops changes one value while the load runs, and checks that the load stops.
func TestCorruptionStops(t *testing.T) {
	cache, err := newGo(testConfig)
	if err != nil {
		t.Fatal(err)
	}
	defer cache.Close()
	w := newWorker(testConfig, cache, 1)
	_, err = run(testConfig, cache, func() func() bool {
		for id := range uint64(100) {
			w.setKey(id)
			if err := cache.Set(string(w.key), []byte("this is not the pattern")); err != nil {
				t.Error(err)
			}
		}
		return afterSteps(1e6)()
	})
	if err == nil || !strings.Contains(err.Error(), "corrupt value") || !strings.Contains(err.Error(), "23 bytes") {
		t.Errorf("run ends with %v", err)
	}
}

func TestPattern(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for n := range 200 {
		value := make([]byte, n)
		fillPattern(value, uint64(n*7))
		if at := mismatch(value, uint64(n*7)); at != -1 {
			t.Fatalf("length %d: mismatch at %d of the pattern itself", n, at)
		}
		if n == 0 {
			continue
		}
		i := rng.IntN(n)
		value[i] ^= 1 << rng.IntN(8)
		if at := mismatch(value, uint64(n*7)); at < 0 || at > i || at+8 <= i {
			t.Errorf("length %d: a flipped bit in byte %d is found at %d", n, i, at)
		}
		value[i]++
		if n >= 8 && (mismatch(value, uint64(n*7+1)) < 0 || mismatch(value[:n-1], uint64(n*7)) < 0) {
			t.Errorf("length %d: the pattern of another key or length passes", n)
		}
	}
}

func TestWorkerAllocatesNothing(t *testing.T) {
	if asan.On {
		t.Skip("skipped: -asan; there instrumented code allocates from Go's heap")
	}
	cache, err := newHakmem(testConfig)
	if err != nil {
		t.Fatal(err)
	}
	defer cache.Close()
	w := newWorker(testConfig, cache, 1)
	step := func() {
		if err := w.step(); err != nil {
			t.Fatal(err)
		}
	}
	for range 20_000 {
		step()
	}
	if got := testing.AllocsPerRun(5_000, step); got != 0 {
		t.Errorf("%v Go allocations per step", got)
	}
}

func TestHistogram(t *testing.T) {
	last := -1
	for ns := uint64(0); ns < 1<<40; ns += 1 + ns/100 {
		i := bucketOf(ns)
		if i < last || bucketTop(i) < ns || float64(bucketTop(i)) > float64(ns)*(1+1.0/32) {
			t.Fatalf("%d ns is in bucket %d up to %d ns, after bucket %d", ns, i, bucketTop(i), last)
		}
		last = i
	}
	if i := bucketOf(math.MaxInt64); i >= len(histogram{}.buckets) {
		t.Fatalf("the longest duration is in bucket %d", i)
	}

	var a, b histogram
	for i := range 10_000 {
		h := &a
		if i%2 == 0 {
			h = &b
		}
		h.record(time.Duration(i) * time.Microsecond)
	}
	a.record(-5) // a clock that runs backwards is no reason to fail
	a.add(&b)
	for q, want := range map[float64]float64{0.5: 5_000, 0.999: 9_990} {
		got := float64(a.quantile(q)) / 1e3
		if got < want*0.999 || got > want*1.04 {
			t.Errorf("quantile %v = %v µs, want about %v", q, got, want)
		}
	}
	if a.n != 10_001 || a.max != 9_999*time.Microsecond || a.quantile(1) != a.max {
		t.Errorf("n %d, max %v, quantile 1 %v", a.n, a.max, a.quantile(1))
	}
}

func TestTable(t *testing.T) {
	r := []result{
		{Backend: "hakmem", Seconds: 2, Procs: 2, Ops: 4_000_000, ValueBytes: 1 << 30, RSS: 5 << 28, P999: 2 * time.Microsecond},
		{Backend: "go", Seconds: 2, Procs: 2, Ops: 2_000_000, ValueBytes: 1 << 30, RSS: 5 << 29, P999: 3 * time.Millisecond, GCCPUSeconds: 0.5},
	}
	got := table(r)
	for _, part := range []string{"2 000 000", "1 000 000", "1.25x", "2.50x", "12.5 %", "3 ms", "1500.00x", "n/a"} {
		if !strings.Contains(got, part) {
			t.Errorf("the table does not say %q:\n%s", part, got)
		}
	}
	if got := table(r[:1]); strings.Contains(got, "against") {
		t.Errorf("a single result is compared:\n%s", got)
	}
}

func TestFirstError(t *testing.T) {
	var f firstError
	if f.set(nil) {
		t.Error("stops without an error")
	}
	one, two := errors.New("one"), errors.New("two")
	if !f.set(one) || !f.set(two) || !f.set(nil) || f.err != one {
		t.Errorf("keeps %v", f.err)
	}
}
