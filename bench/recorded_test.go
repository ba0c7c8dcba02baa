package bench

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/hakmem/hakmem/bench/trace"
)

// mostRecorded is what all recordings together may take in the repository, in bytes.
const mostRecorded = 3 << 19

// TestRecordings: every recording is a workload's, can be executed as it is, and has what its workload is for.
func TestRecordings(t *testing.T) {
	files, err := fs.ReadDir(recordings, "recorded")
	if err != nil {
		t.Fatal(err)
	}
	bytes := int64(0)
	for _, file := range files {
		info, err := file.Info()
		if err != nil {
			t.Fatal(err)
		}
		bytes += info.Size()
		name := strings.TrimSuffix(file.Name(), ".gz")
		if w, err := FindWorkload(name); err != nil || !w.Recorded {
			t.Errorf("%s is no recorded workload's: %v", file.Name(), err)
		}
	}
	if bytes > mostRecorded {
		t.Errorf("the recordings have %d bytes, more than %d: record smaller programs", bytes, mostRecorded)
	}
	recorded := 0
	for i := range Workloads {
		w := &Workloads[i]
		if !w.Recorded {
			if _, err := w.Tape(); err == nil {
				t.Errorf("%s has a tape", w.Name)
			}
			continue
		}
		recorded++
		tape, err := w.Tape()
		if err != nil {
			t.Errorf("%s: %v", w.Name, err)
			continue
		}
		kinds := map[trace.Kind]int{}
		for _, op := range tape.Ops {
			kinds[op.Kind]++
		}
		left := kinds[trace.Malloc] + kinds[trace.Calloc] + kinds[trace.Memalign] - kinds[trace.Free]
		t.Logf("%s: %d operations %v, at most %d bytes in %d blocks, %d blocks left", w.Name, len(tape.Ops), kinds, tape.PeakLive, tape.PeakBlocks, left)
		switch {
		case tape.Threads != w.Params.Threads:
			t.Errorf("%s has %d threads, the table says %d", w.Name, tape.Threads, w.Params.Threads)
		case tape.Anomalies.Total() != 0:
			t.Errorf("%s has anomalies, but was recorded from its start to its end: %+v", w.Name, tape.Anomalies)
		case kinds[trace.Free] == 0 || left > 100: // what a library keeps to its end
			t.Errorf("%s leaves %d blocks: it does not free what it has", w.Name, left)
		}
	}
	if recorded != len(files) {
		t.Errorf("%d workloads are recorded, and there are %d files", recorded, len(files))
	}
}
