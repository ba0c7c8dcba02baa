package main

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestMain makes the test's program act as the process that runAll starts.
func TestMain(m *testing.M) {
	if slices.Contains(os.Args, "-child") {
		main()
	}
	os.Exit(m.Run())
}

// TestContenders: each cache returns what was set, and runs the load without a wrong value.
func TestContenders(t *testing.T) {
	l := load{MiB: 32, Ops: 20_000, Goroutines: 2}
	for _, m := range makers {
		t.Run(m.name, func(t *testing.T) {
			c, err := m.make(l.MiB<<20, l.entries())
			if err != nil {
				t.Fatal(err)
			}
			defer c.close()
			key := []byte("a key")
			c.set(string(key), []byte("value"))
			key[0] = 'x'
			got, found := c.get([]byte("before "), "a key")
			for range 1000 { // ristretto sets some time later
				if found {
					break
				}
				time.Sleep(time.Millisecond)
				got, found = c.get([]byte("before "), "a key")
			}
			if string(got) != "before value" || !found {
				t.Errorf("%q, %t", got, found)
			}
			if _, found := c.get(nil, "another"); found {
				t.Error("found what was not set")
			}
			r := l.run(c)
			if r.Wrong > 0 || r.HitRate <= 0 || r.HitRate >= 1 || r.OpsPerSecond <= 0 || r.P999 <= 0 {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestTable(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := start([]string{"-mib=32", "-ops=1000", "-goroutines=1", "-caches=hakmem/cache,freecache"}, &stdout, &stderr); code != 0 {
		t.Fatalf("exit status %d: %s", code, &stderr)
	}
	out := stdout.String()
	if strings.Count(out, "\n") != 6 || !strings.Contains(out, "| hakmem/cache | ") || !strings.Contains(out, "| freecache | ") {
		t.Errorf("%s", out)
	}
}

func TestBadInput(t *testing.T) {
	for args, want := range map[string]string{
		"-mib 1":          "-mib 1: choose 32",
		"-ops 1":          "-ops 1: choose at least",
		"-goroutines 0":   "-goroutines 0: choose 1",
		"-caches redis":   `no cache "redis": choose of hakmem/cache,`,
		"now":             `unexpected argument "now"`,
		"-seconds 1":      "-seconds",
		"-caches otter,,": `no cache ""`,
	} {
		var stdout, stderr bytes.Buffer
		if code := start(strings.Fields(args), &stdout, &stderr); code != 2 || !strings.Contains(stderr.String(), want) {
			t.Errorf("%s: exit status %d, %s", args, code, &stderr)
		}
	}
}
