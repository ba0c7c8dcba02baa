// Package hakmemvar publishes the statistics of hakmem as a variable of the standard library's package expvar,
// which shows them at /debug/vars:
//
//	func main() {
//		hakmemvar.Publish("hakmem")
//		http.ListenAndServe("localhost:6060", nil)
//	}
//
// It is a package of its own because expvar brings net/http along. Importing it publishes nothing.
package hakmemvar

import (
	"encoding/json"
	"expvar"
	"math"

	"github.com/hakmem/hakmem/internal/export"
)

// Publish publishes the statistics under the given name. Like expvar.Publish it ends the program (log.Panicln)
// if the name is taken. There is no way to take a variable back.
//
// The value is a JSON object of all figures of hakmem.Stats by their names. A figure with a label is an object
// itself, of values by the value of the label:
//
//	{"live_bytes": 8192, ..., "class_live_blocks": {"16": 3, "32": 0, ...}, "site_live_bytes": {"index": 4096}}
//
// Sizes are in bytes, times in seconds, and 1 and 0 stand for true and false. All sites are there: with
// HAKMEM_SITES=pc there may be thousands.
//
// Each time that the variable is read it costs what hakmem.ReadStats costs, and about a millisecond. Any
// goroutine.
func Publish(name string) { expvar.Publish(name, new(variable)) }

// variable is the published variable.
type variable struct{ reader export.Reader }

// String returns the statistics as JSON.
func (v *variable) String() string {
	values := v.reader.Values(math.MaxInt)
	all := map[string]any{}
	for name, value := range values.Plain {
		all[name] = value
	}
	for name, by := range values.Labelled {
		all[name] = by
	}
	text, err := json.Marshal(all)
	if err != nil { // a figure is no number: NaN or infinite
		text, _ = json.Marshal(map[string]string{"error": err.Error()})
	}
	return string(text)
}
