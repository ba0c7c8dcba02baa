// Package proto writes a profile of package profile in the formats that go tool pprof reads: profile.proto,
// whose fields are described in github.com/google/pprof/proto/profile.proto, and the text of /debug/pprof/heap?debug=1.
//
// The types of the samples are those of Go's own heap profile, in the same order, so that tools can add the
// two up.
package proto

import (
	"bufio"
	"cmp"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/profile"
	"github.com/hakmem/hakmem/internal/site"
)

// Profile is what is written.
type Profile struct {
	Rate     profile.Rate
	Samples  []profile.Sample
	SiteName func(site.ID) string
	Program  string        // the path of the program
	Time     time.Time     // when the samples were read
	Duration time.Duration // between two readings, of which Samples is the difference; else 0

	// Held, unless it is nil, is what is written in place of Samples.
	Held []profile.Held
}

// The types of the values of a sample, in their order. That of Go's profile may change with a new version of Go: a
// test compares the two.
var sampleTypes = []valueType{
	{"alloc_objects", "count"}, {"alloc_space", "bytes"}, {"inuse_objects", "count"}, {"inuse_space", "bytes"},
}

// heldTypes are those of Held.
var heldTypes = []valueType{{"held_objects", "count"}, {"held_space", "bytes"}}

type valueType struct{ name, unit string }

// The labels of a sample: the size of its blocks, as in Go's profile, and their site, if they have one.
const (
	sizeLabel = "bytes"
	siteLabel = "site"
)

// The numbers of the fields of each message in profile.proto.
const (
	profileSampleType        = 1
	profileSample            = 2
	profileMapping           = 3
	profileLocation          = 4
	profileFunction          = 5
	profileStringTable       = 6
	profileTimeNanos         = 9
	profileDurationNanos     = 10
	profilePeriodType        = 11
	profilePeriod            = 12
	profileDefaultSampleType = 14

	valueTypeType = 1
	valueTypeUnit = 2

	sampleLocation = 1
	sampleValue    = 2
	sampleLabel    = 3

	labelKey = 1
	labelStr = 2
	labelNum = 3

	mappingID           = 1
	mappingFile         = 5
	mappingHasFunctions = 7
	mappingHasFiles     = 8
	mappingHasLines     = 9
	mappingHasInlined   = 10

	locationID      = 1
	locationMapping = 2
	locationAddress = 3
	locationLine    = 4

	lineFunction = 1
	lineLine     = 2

	functionID         = 1
	functionName       = 2
	functionSystemName = 3
	functionFile       = 4
)

// message is an encoded message of protocol buffers.
type message []byte

// The two ways in which a field's value is encoded here.
const (
	wireVarint = 0
	wireBytes  = 2
)

func (m *message) varint(field int, v uint64) {
	if v != 0 { // 0 is what a reader assumes
		*m = binary.AppendUvarint(*m, uint64(field)<<3|wireVarint)
		*m = binary.AppendUvarint(*m, v)
	}
}

// bytes adds a message, a string, or a packed list of numbers.
func (m *message) bytes(field int, v []byte) {
	*m = binary.AppendUvarint(*m, uint64(field)<<3|wireBytes)
	*m = binary.AppendUvarint(*m, uint64(len(v)))
	*m = append(*m, v...)
}

// packed adds a list of numbers.
func (m *message) packed(field int, list []uint64) {
	var v []byte
	for _, x := range list {
		v = binary.AppendUvarint(v, x)
	}
	m.bytes(field, v)
}

// builder numbers what a profile names once and refers to by number.
type builder struct {
	out       message
	strings   map[string]uint64
	table     []string
	functions map[function]uint64
	locations map[string]uint64 // by the location's lines
}

type function struct{ name, file string }

func (b *builder) str(s string) uint64 {
	n, ok := b.strings[s]
	if !ok {
		n = uint64(len(b.table))
		b.strings[s] = n
		b.table = append(b.table, s)
	}
	return n
}

func (b *builder) valueType(field int, t valueType) {
	var m message
	m.varint(valueTypeType, b.str(t.name))
	m.varint(valueTypeUnit, b.str(t.unit))
	b.out.bytes(field, m)
}

// function returns the number of the function that a frame is in.
func (b *builder) function(f *runtime.Frame) uint64 {
	key := function{f.Function, f.File}
	n, ok := b.functions[key]
	if !ok {
		n = uint64(len(b.functions) + 1)
		b.functions[key] = n
		var m message
		m.varint(functionID, n)
		m.varint(functionName, b.str(key.name))
		m.varint(functionSystemName, b.str(key.name))
		m.varint(functionFile, b.str(key.file))
		b.out.bytes(profileFunction, m)
	}
	return n
}

// location returns the number of the location that the frames are: functions that were inlined, and the
// function into which they were.
func (b *builder) location(frames []runtime.Frame) uint64 {
	var lines message
	for i := range frames {
		var line message
		line.varint(lineFunction, b.function(&frames[i]))
		line.varint(lineLine, uint64(frames[i].Line))
		lines.bytes(locationLine, line)
	}
	pc := frames[0].PC
	key := string(binary.AppendUvarint(slices.Clone(lines), uint64(pc)))
	n, ok := b.locations[key]
	if !ok {
		n = uint64(len(b.locations) + 1)
		b.locations[key] = n
		var m message
		m.varint(locationID, n)
		m.varint(locationMapping, theMapping)
		m.varint(locationAddress, uint64(pc))
		b.out.bytes(profileLocation, append(m, lines...))
	}
	return n
}

// theMapping is the number of the only mapping, which stands for the program and says that nothing needs to be looked
// up in its file.
const theMapping = 1

// stack returns the locations of a stack, the innermost first. As in Go's profiles the function in which every
// goroutine ends, and which says nothing, is left out.
func (b *builder) stack(pcs []uintptr) (locations []uint64) {
	if len(pcs) == 0 {
		return nil
	}
	var inlined []runtime.Frame
	frames := runtime.CallersFrames(pcs)
	for more := true; more; {
		var f runtime.Frame
		f, more = frames.Next()
		if f.PC == 0 && f.Function == "" {
			continue // a counter of which the runtime knows nothing
		}
		if f.Function == "runtime.goexit" && len(locations) > 0 {
			continue
		}
		inlined = append(inlined, f)
		if f.Func != nil || !more { // the runtime has no Func for one that was inlined
			locations = append(locations, b.location(inlined))
			inlined = inlined[:0]
		}
	}
	return locations
}

// sample adds a sample with its values, unless all of them are 0.
func (b *builder) sample(p *Profile, stack []uintptr, size mem.Bytes, in site.ID, values ...int64) {
	list := make([]uint64, len(values))
	some := uint64(0)
	for i, v := range values {
		list[i] = uint64(v)
		some |= list[i]
	}
	if some == 0 {
		return
	}
	var m message
	m.packed(sampleLocation, b.stack(stack))
	m.packed(sampleValue, list)
	var label message
	label.varint(labelKey, b.str(sizeLabel))
	label.varint(labelNum, uint64(size))
	m.bytes(sampleLabel, label)
	if in != 0 {
		label = label[:0]
		label.varint(labelKey, b.str(siteLabel))
		label.varint(labelStr, b.str(p.SiteName(in)))
		m.bytes(sampleLabel, label)
	}
	b.out.bytes(profileSample, m)
}

// Write writes the profile as a compressed profile.proto, with one call of w.Write or a few.
func (p *Profile) Write(w io.Writer) error {
	b := &builder{strings: map[string]uint64{"": 0}, table: []string{""}, functions: map[function]uint64{}, locations: map[string]uint64{}}
	types := sampleTypes
	if p.Held != nil {
		types = heldTypes
	}
	for _, t := range types {
		b.valueType(profileSampleType, t)
	}
	for _, h := range p.Held {
		b.sample(p, h.Stack, h.Size, h.Site, h.Blocks, h.Bytes)
	}
	for _, s := range p.Samples {
		allocs, allocBytes := p.Rate.Estimate(s.Allocs, s.Size)
		live, liveBytes := p.Rate.Estimate(s.Live(), s.Size)
		b.sample(p, s.Stack, s.Size, s.Site, allocs, allocBytes, live, liveBytes)
	}
	var m message
	m.varint(mappingID, theMapping)
	m.varint(mappingFile, b.str(p.Program))
	for _, has := range []int{mappingHasFunctions, mappingHasFiles, mappingHasLines, mappingHasInlined} {
		m.varint(has, 1)
	}
	b.out.bytes(profileMapping, m)
	b.out.varint(profileTimeNanos, uint64(p.Time.UnixNano()))
	b.out.varint(profileDurationNanos, uint64(p.Duration))
	b.valueType(profilePeriodType, valueType{"space", "bytes"})
	b.out.varint(profilePeriod, uint64(p.Rate))
	// What go tool pprof shows unless it is asked for another: the last one, the bytes.
	b.out.varint(profileDefaultSampleType, b.str(types[len(types)-1].name))
	for _, s := range b.table {
		b.out.bytes(profileStringTable, []byte(s))
	}
	z := gzip.NewWriter(w)
	if _, err := z.Write(b.out); err != nil {
		return err
	}
	return z.Close()
}

// WriteText writes the profile as a text in the manner of /debug/pprof/heap?debug=1: the samples themselves,
// the buckets with the most live bytes first. Tools that read it scale the samples.
func (p *Profile) WriteText(w io.Writer) error {
	samples := slices.Clone(p.Samples)
	slices.SortStableFunc(samples, func(a, b profile.Sample) int {
		return cmp.Compare(b.Live()*int64(b.Size), a.Live()*int64(a.Size))
	})
	out := bufio.NewWriter(w) // it keeps the first error
	var all profile.Counts
	var liveBytes, allocBytes int64
	for _, s := range samples {
		all.Allocs += s.Allocs
		all.Frees += s.Frees
		liveBytes += s.Live() * int64(s.Size)
		allocBytes += s.Allocs * int64(s.Size)
	}
	// Twice the rate is what readers of this format expect.
	fmt.Fprintf(out, "heap profile: %d: %d [%d: %d] @ heap/%d\n", all.Live(), liveBytes, all.Allocs, allocBytes, 2*p.Rate)
	for _, s := range samples {
		if s.Counts == (profile.Counts{}) {
			continue
		}
		fmt.Fprintf(out, "%d: %d [%d: %d] @", s.Live(), s.Live()*int64(s.Size), s.Allocs, s.Allocs*int64(s.Size))
		for _, pc := range s.Stack {
			fmt.Fprintf(out, " %#x", pc)
		}
		fmt.Fprintln(out)
		if s.Site != 0 {
			fmt.Fprintf(out, "#\tsite %s\n", oneLine.Replace(p.SiteName(s.Site)))
		}
		frames := runtime.CallersFrames(s.Stack)
		for more := len(s.Stack) > 0; more; {
			var f runtime.Frame
			f, more = frames.Next()
			fmt.Fprintf(out, "#\t%#x\t%s+%#x\t%s:%d\n", f.PC, f.Function, f.PC-f.Entry, f.File, f.Line)
		}
		fmt.Fprintln(out)
	}
	return out.Flush()
}

// oneLine keeps a name on its line.
var oneLine = strings.NewReplacer("\n", " ", "\r", " ")
