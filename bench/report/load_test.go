package report

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// load reads files of testdata.
func load(t *testing.T, names ...string) []Source {
	t.Helper()
	for i := range names {
		names[i] = filepath.Join("testdata", names[i])
	}
	sources, err := Load(names...)
	if err != nil {
		t.Fatal(err)
	}
	return sources
}

func TestLoad(t *testing.T) {
	sources := load(t, "collection.json", "single.json", "old.json", "edges.json")
	for i, want := range []struct {
		name, cpu, command string
		reports            int
	}{
		{"collection.json", "Example CPU 9000 @ 3.2 GHz", `hakmem compare all --json --env 'MIMALLOC_VERBOSE=it'\''s on'`, 4},
		{"single.json", "Example CPU 9000 @ 3.2 GHz", "hakmem compare random_mixed --layouts 5 --json", 1},
		{"old.json", "Example CPU 9000 @ 3.2 GHz", "", 1},
		{"edges.json", "Example CPU 9000 @ 3.2 GHz", "", 3}, // the machine is its first report's
	} {
		s := sources[i]
		if s.Name != want.name || s.Machine.CPU != want.cpu || Shell(s.Command) != want.command || len(s.Reports) != want.reports {
			t.Errorf("%s: machine %q, command %q, %d reports; want %+v", s.Name, s.Machine.CPU, Shell(s.Command), len(s.Reports), want)
		}
	}
}

// Figures that an old report lacks follow from its results.
func TestComplete(t *testing.T) {
	r := load(t, "old.json")[0].Reports[0]
	if r.Results[0].OverIdle != 900000 {
		t.Errorf("hakmem's peak over idle is %d, want 900000, the run's peak less its idle", r.Results[0].OverIdle)
	}
	for i, want := range []struct {
		peer        string
		raw, memory string
	}{
		{"go", "4.87×", "4.67×"},
		{"pool", "2.23×", notKnown},
		{"modernc", notKnown, "2.22×"},
	} {
		x := r.Ratios[i]
		if x.Hakmem != "hakmem" || x.Peer != want.peer || times(x.Raw) != want.raw || times(x.Memory) != want.memory {
			t.Errorf("%+v; want %+v", x, want)
		}
	}
}

// Figures that a report has are not computed again.
func TestCompleteKeeps(t *testing.T) {
	c, err := parse([]byte(`{"workload": "w", "params": {"iters": 20000000}, "results": [
		{"allocator": "hakmem", "ns_per_op": 1}, {"allocator": "glibc", "ns_per_op": 2}],
		"ratios": [{"hakmem": "hakmem", "peer": "glibc", "raw": 3}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if r := c.Reports[0]; len(r.Ratios) != 1 || r.Ratios[0].Raw != 3 {
		t.Errorf("ratios %+v; want the report's own, 3", r.Ratios)
	}
	if got := conditions(&c.Reports[0]); got[0] != "iters 20000000" {
		t.Errorf("%q; want the number as it is written", got)
	}
}

func TestLoadErrors(t *testing.T) {
	const report = `{"workload": "w", "results": []}`
	for _, test := range []struct{ text, want string }{
		{"", "the file is empty"},
		{" \n", "the file is empty"},
		{"random_mixed: 16-1024 B", "not JSON: invalid character 'r'"},
		{`{"workload": "w", "results": [`, "not JSON: it ends too early"},
		{report + report, "not JSON: more follows after the first value, at byte 33"},
		{"[" + report + "]", "found an array"},
		{"12", "found a number"},
		{`"report"`, "found a string"},
		{"null", "found null"},
		{"true", "found a boolean"},
		{"{}", "found an object without fields"},
		{`{"seconds": 1, "ns_per_op": 2}`, `neither a report (workload, results) nor a collection (reports): found an object with ["ns_per_op" "seconds"]`},
		{`{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1}`, `["a" "b" "c" "d" "e"], ...`},
		{`{"workload": "w", "results": 3}`, "a report with an unusable field: json: cannot unmarshal number"},
		{`{"reports": {"workload": "w"}}`, "a collection with an unusable field: json: cannot unmarshal object"},
		{`{"reports": []}`, "a collection without a report"},
		{`{"reports": [` + report + `, {"results": []}]}`, "report 2 of 2 names no workload"},
		{`{"workload": "", "results": []}`, "report 1 of 1 names no workload"},
	} {
		name := filepath.Join(t.TempDir(), "r.json")
		if err := os.WriteFile(name, []byte(test.text), 0o666); err != nil {
			t.Fatal(err)
		}
		_, err := Load(name)
		if err == nil {
			t.Errorf("%q: no error", test.text)
			continue
		}
		for _, part := range []string{name + ": ", test.want, remedy} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q: error %q does not say %q", test.text, err, part)
			}
		}
	}
	_, err := Load("testdata/no such file")
	if err == nil || !strings.Contains(err.Error(), "testdata/no such file") || !strings.Contains(err.Error(), remedy) {
		t.Errorf("error %v does not name the missing file and what to do", err)
	}
}
