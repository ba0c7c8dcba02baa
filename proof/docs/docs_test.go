package docs

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// language is what code spans may name of Go itself.
var language = strings.Fields("make new nil panic append copy go runtime sync os unsafe atomic")

// exceptions are names that the tree does not have, and why a document names them all the same.
var exceptions = map[string]string{
	"HAKMEM_X":        "stands for any setting",
	"X.go":            "stands for any file",
	"X_test.go":       "stands for the tests of that file",
	"./cgomalloc":     "is relative to the directory bench, which the text names",
	"--all":           "is a flag of .ci/go-versions, which the text names",
	"ReadMemStats":    "is runtime.ReadMemStats",
	"GOGC":            "is a variable of Go's runtime",
	"GOMEMLIMIT":      "is a variable of Go's runtime",
	"runtime/metrics": "is a package of Go's library",
	"runtime/trace":   "is a package of Go's library",

	"hakmem.tick":     "is a region of execution traces",
	"hakmem.pressure": "is a region of execution traces",
	"hakmem.counted":  "is a category of execution traces",
	"hakmem.refused":  "is a category of execution traces",

	"debug.SetGCPercent":    "is a function of Go's library",
	"memlimit.WithProvider": "is an option of automemlimit, which the text names",
	"pcachepool":            "is a build tag of modernc.org/sqlite",
	"memory.counters":       "is a build tag of modernc.org/memory, which adapters/moderncmemory has too",
	"memory.trace":          "is a build tag of modernc.org/memory",
	"retract":               "is a directive of go.mod",

	"TestIssue118":                  "is a test of modernc.org/sqlite",
	"TestSingleConn":                "is a test of modernc.org/sqlite",
	"TestConcatenate":               "is a test of Arrow's",
	"TestPageStreamingRecordReader": "is a test of Parquet's",
	"TestParquetArrowIO":            "is a test of Parquet's",
	"TestInferringSchemaWithoutHeaderPreservesFirstRow": "is a test of Arrow's",
	"TestIntegration": "is a test of Arrow's",

	"MCL_FUTURE":     "is a constant of mlockall",
	"LimitAS":        "is a setting of systemd",
	"xthread_free":   "is a field of mimalloc's",
	"local_free":     "is a field of mimalloc's",
	"bench/security": "is a directory of mimalloc-bench",
}

// pages are the documents that are checked.
func pages(tr *tree) []*page {
	var list []*page
	for _, name := range slices.Sorted(maps.Keys(tr.pages)) {
		if name == "README.md" || strings.HasPrefix(name, "docs/") || strings.HasPrefix(name, "adapters/") || name == "examples/cache/README.md" {
			list = append(list, tr.pages[name])
		}
	}
	return list
}

// TestDocuments: what the documents name exists.
func TestDocuments(t *testing.T) {
	tr := getTree(t)
	seen, excused := map[string]int{}, map[string]bool{}
	for _, p := range pages(tr) {
		c := check(tr, p)
		for _, problem := range c.problems {
			t.Errorf("%s is not there: correct the document, or give a reason in exceptions", problem)
		}
		for kind, n := range c.seen {
			seen[kind] += n
		}
		for name := range c.excused {
			excused[name] = true
		}
	}
	for _, kind := range kinds {
		t.Logf("%s: %d references", kind, seen[kind])
		if seen[kind] == 0 {
			t.Errorf("no document names a %s: it is no longer recognised", kind)
		}
	}
	for name := range exceptions {
		if !excused[name] {
			t.Errorf("exceptions has %q, which no document needs: take it out", name)
		}
	}
}

// TestFindsEachKind: a name that does not exist is found, and one like it that does is not.
func TestFindsEachKind(t *testing.T) {
	tr := getTree(t)
	for _, x := range []struct{ kind, text, want string }{ // want "": nothing is wrong
		{kindPath, "See `internal/engine/span.go`.", "internal/engine/span.go"},
		{kindPath, "See internal/engine/span.go.", "internal/engine/span.go"},
		{kindPath, "See `internal/engine/slab.go` and internal/engine.", ""},
		{kindPath, "In `internal/heap` are", "internal/heap"},
		{kindPath, "In `heaps/engine` are", "heaps/engine"},
		{kindPath, "internal/engine/slab.go, span.go", "span.go"},
		{kindPath, "internal/engine/slab.go, magazine.go", ""},
		{kindPath, "internal/engine/slab.go; magazine.go", "magazine.go"},
		{kindPath, "| internal/engine/slab.go | magazine.go |", "magazine.go"},
		{kindPath, "```\ngo run ./examples/nothing\n```", "./examples/nothing"},
		{kindPath, "`go test ./internal/heap/...`", "./internal/heap"},
		{kindPath, "import github.com/hakmem/hakmem/benches now", "benches"},
		{kindPath, "https://go.dev/issue/1 and github.com/hakmem/hakmem/bench/v0.1.0", ""},
		{kindTest, "`TestThatIsNot` and TestDocumentsToo", "TestThatIsNot"},
		{kindTest, "FuzzThatIsNot", "FuzzThatIsNot"},
		{kindTest, "FuzzAll, `TestModel`", ""},
		{kindSetting, "HAKMEM_MAG_WORMS=1", "HAKMEM_MAG_WORMS"},
		{kindSetting, "`HAKMEM_MAG_BYTES=1`, the alias HAKMEM_FRONT_V2_CAP, and HAKMEM_PROOF_OPS", ""},
		{kindTag, "`-tags hakmem_pins`", "hakmem_pins"},
		{kindTag, "`-tags hakmem_pin`", ""},
		{kindVerb, "`hakmem measure`", "hakmem measure"},
		{kindVerb, "```\ngo run ./cmd/hakmem measure\n```", "hakmem measure"},
		{kindVerb, "| verb | what |\n|---|---|\n| `measure W` | no |", "hakmem measure"},
		{kindVerb, "| verb | what |\n|---|---|\n| `bench W`, `soak --for 60m` | yes |", ""},
		{kindFlag, "`hakmem bench random_mixed --slow`", "hakmem bench --slow"},
		{kindFlag, "`hakmem compare\nall --slow`", "hakmem compare --slow"},
		{kindFlag, "`hakmem bench random_mixed --threads 2 --json`", ""},
		{kindFlag, "`hakmem record --output t -- PROGRAM --slow`", ""},
		{kindFlag, "`--slow`", "--slow"},
		{kindFlag, "`random_mixed --slow 2`", "random_mixed --slow 2"},
		{kindFlag, "`go test ./misuse -every`", "go test ./misuse -every"},
		{kindFlag, "`go test ./misuse -all -v -timeout 1h`", ""},
		{kindFlag, "`go run ./proof/fuzz -rates 1`", "go run ./proof/fuzz -rates"},
		{kindFlag, "`.ci/go-versions --some`", ".ci/go-versions --some"},
		{kindRun, "`go test -run 'Storm\\|Limits?OfNothing' .`", "Limits?OfNothing"},
		{kindRun, "`go test -run 'TestStress$' ./proof`", ""},
		{kindName, "`installSide`", "installSide"},
		{kindName, "`hakmem bench no_workload`", "no_workload"},
		{kindName, "`installFront`, `Malloc(p)`, `pFronts[pid]`, `slabState`", ""},
		{kindName, "`engine.InstallSide`", "engine.InstallSide"},
		{kindName, "`heap.Malloc`", "heap.Malloc"},
		{kindName, "`Stats.Alive`", "Stats.Alive"},
		{kindName, "`Stats.Live`, `engine.ChooseRoad`, `times.listed`, `policy.fixed`", ""},
		{kindName, "`times.listened`", "times.listened"},
		{kindPlace, "internal/engine/magazine.go `flush`, `retire`", "retire in internal/engine/magazine.go"},
		{kindPlace, "cmd/hakmem `TestModel`", "TestModel in cmd/hakmem"},
		{kindPlace, "**`retire`** (magazine.go)", "retire in magazine.go"},
		{kindPlace, "(internal/engine/slab.go, `retire`), `flush` (magazine.go), **`bits` and `format`** (slab.go)", ""},
		{kindPublic, "```go\nb := hakmem.Allocate(1)\n```", "hakmem.Allocate"},
		{kindPublic, "```go\nb := hakmem.Alloc(1)\n```", ""},
		{kindLink, "[a](nothing.md)", "nothing.md"},
		{kindLink, "[a](design.md#nothing)", "design.md#nothing"},
		{kindLink, "[a](#nothing)\n\n# Something", "#nothing"},
		{kindLink, "[a](#some-thing) [b](design.md#glossary) [c](../README.md) [d](https://nothing.example/x)\n\n# Some, thing", ""},
		{kindSection, "see section 2.\n\n## 1. One", " 2"},
		{kindSection, "see section 1, and [design.md](design.md), section 99\n\n## 1. One", "design.md 99"},
		{kindSection, "[security.md](security.md) (\"Frees that overlap\"), and [security.md](security.md) (\"Frees that lap\")", `security.md "Frees that lap"`},
		{kindSection, "(ledger, \"No entry\")", `ledger "No entry"`},
	} {
		p := readPage("docs/example.md", x.text)
		var got []string
		c := check(tr, p)
		for _, problem := range c.problems {
			if problem.kind == x.kind {
				got = append(got, problem.text)
			}
		}
		switch {
		case c.seen[x.kind] == 0:
			t.Errorf("%q: no %s was seen in it", x.text, x.kind)
		case x.want == "" && len(c.problems) > 0:
			t.Errorf("%q: found %v, and there is nothing wrong", x.text, c.problems)
		case x.want != "" && (len(got) == 0 || got[0] != x.want):
			t.Errorf("%q: found %q, want the %s %q", x.text, got, x.kind, x.want)
		}
	}
}

// TestReasons: each line of .ci/coverage/reasons.txt, and of the table that is made of it, names a
// function that the file has.
func TestReasons(t *testing.T) {
	tr := getTree(t)
	text, err := tr.read(".ci/coverage/reasons.txt")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] == "#" {
			continue
		}
		n++
		if len(f) < 4 || !isNumber(f[2]) {
			t.Errorf("reasons.txt: %q: want a file, a function, a number and a reason", line)
		} else if f[1] == "*" { // the whole file
			if !tr.paths[f[0]] {
				t.Errorf("reasons.txt: there is no file %s", f[0])
			}
		} else if !tr.declared[f[1]][f[0]] {
			t.Errorf("reasons.txt: %s has no function %s", f[0], f[1])
		}
	}
	rows := 0
	for _, c := range tr.pages["docs/coverage.md"].chunks {
		if cells := strings.Split(c.text, " | "); c.head == "file" && len(cells) == 4 && isNumber(cells[2]) {
			rows++
			if file := "internal/" + strings.TrimPrefix(cells[0], "| "); cells[1] != "-" && !tr.declared[cells[1]][file] {
				t.Errorf("docs/coverage.md:%d: %s has no function %s", c.line, file, cells[1])
			}
		}
	}
	if n < 10 || rows < 10 {
		t.Errorf("%d reasons and %d rows of docs/coverage.md were recognised, want more", n, rows)
	}
	if tr.declared["freeWarm"]["internal/engine/large_alloc.go"] || !tr.declared["slabID.dropLive"]["internal/engine/slab.go"] {
		t.Error("the tree does not say which file declares a function")
	}
}

func isNumber(s string) bool { _, err := strconv.Atoi(s); return err == nil }
