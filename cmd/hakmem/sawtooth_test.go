package main

import (
	"encoding/json"
	"runtime"
	"testing"
)

// TestSawtooth checks the figures of each period and the number of live bytes.
func TestSawtooth(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("skipped: resident memory is read from Linux's /proc")
	}
	// It runs in a process of its own. Otherwise memory that other tests left to Go's collector
	// would go back to the system while this test measures resident memory.
	out, errs := hakmemProgram(t, "sawtooth", "--peak", "64", "--period", "200ms", "--periods", "2", "--json")
	var r sawtoothResult
	if err := json.Unmarshal([]byte(out), &r); errs != "" || err != nil {
		t.Fatalf("%q, %v", errs, err)
	}
	if len(r.Periods) != 2 || r.LiveBytes != 26*sawtoothBlock || r.FirstFaults == 0 || r.Faults < r.FirstFaults {
		t.Errorf("%+v", r)
	}
	for i, p := range r.Periods { // all of the peak is kept within the scavenger's window
		if p.MeanRSS < 5 || p.EndRSS < 5 {
			t.Errorf("period %d: %+v, want about 10 times what is live", i, p)
		}
	}
}
