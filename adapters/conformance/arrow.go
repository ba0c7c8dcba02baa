package main

import (
	"os"
	"path/filepath"
)

// Apache Arrow and its Parquet. Nearly all of their tests get memory from the two allocators that are
// swapped: memory.NewGoAllocator and memory.DefaultAllocator, which is one of the former. The tests with
// assertions (the tag assert) find what is released too often. Vet is off: hakmem makes the copy a module of
// Go 1.26, and by its rules some of their tests do not print a number right.

const (
	arrowModule  = "github.com/apache/arrow-go/v18"
	arrowVersion = "v18.8.0"
)

// listViews is about arrow/internal/testing/gen, genListViewData.
const listViews = "its generator makes list views of an array's buffers, and releases the array before they are read"

// writtenLate is about arrow/internal/arrjson, Writer. Which subtest fails depends on what has taken the memory.
const writtenLate = "its writer of JSON keeps strings and offsets of each record batch until Close, and the reader releases the batch when it reads the next"

var _ = register(program{
	name:    "arrow",
	module:  arrowModule,
	version: arrowVersion,
	tests:   []string{"./arrow/..."},
	prepare: arrowMemory,
	env:     []string{"GOFLAGS=-mod=mod -vet=off -tags=assert,test"},
	slow: []reason{
		{"./arrow/flight/...", "its tests need SQLite and gRPC, which take minutes to compile, twice"},
		{"./arrow/internal/flight_integration/...", "it needs gRPC, too"},
	},
	known: []reason{
		{arrowModule + "/arrow/array.TestConcatenate", listViews},
		{arrowModule + "/arrow/array.TestConcatenate/list_view/...", listViews},
		{arrowModule + "/arrow/array.TestConcatenate/large_list_view/...", listViews},
		{arrowModule + "/arrow/csv.TestInferringSchemaWithoutHeaderPreservesFirstRow", "it keeps strings of record batches that the reader releases when it reads the next"},
		{arrowModule + "/arrow/ipc/cmd/arrow-json-integration-test.TestIntegration", writtenLate},
		{arrowModule + "/arrow/ipc/cmd/arrow-json-integration-test.TestIntegration/...", writtenLate},
	},
})

var _ = register(program{
	name:    "parquet",
	module:  arrowModule,
	version: arrowVersion,
	tests:   []string{"./parquet/..."},
	prepare: arrowMemory,
	env:     []string{"GOFLAGS=-mod=mod -vet=off -tags=assert"},
	skip:    withoutData(),
	known: []reason{
		{arrowModule + "/parquet/file.TestPageStreamingRecordReader", keptValues},
		{arrowModule + "/parquet/file.TestPageStreamingRecordReader/...", keptValues},
		{arrowModule + "/parquet/pqarrow.TestParquetArrowIO", released},
		{arrowModule + "/parquet/pqarrow.TestParquetArrowIO/TestReadSingleColumnFile/...", released},
		{arrowModule + "/parquet/pqarrow.TestParquetArrowIO/TestSingleColumnRequiredRead/...", released},
	},
})

// released is about makeTestFile.
const released = "it returns the bytes of a buffer that it releases, and reads them as a file"

const keptValues = "it keeps the values of arrays that it releases, and compares them afterwards"

// withoutData leaves out tests that end their process where Parquet's files for tests are not there, with all tests
// behind them. The files are a repository of their own; the environment variable is Arrow's.
func withoutData() []reason {
	if os.Getenv("PARQUET_TEST_DATA") != "" {
		return nil
	}
	const why = "without PARQUET_TEST_DATA it ends its process"
	return []reason{{"^TestArrowReaderAdHocRead", why}, {"^TestArrowReaderCanceledContext$", why}}
}

// arrowMemory writes GoAllocator anew. Some tests give Arrow slices of their own to free, which is allowed.
func arrowMemory(dir string) error {
	if err := requireHakmem(dir, "adapters/arrow"); err != nil {
		return err
	}
	const name = "arrow/memory/go_allocator.go"
	if err := os.Remove(filepath.Join(dir, filepath.FromSlash(name))); err != nil {
		return err
	}
	return writeFile(dir, name, `package memory

import hakmemarrow "github.com/hakmem/hakmem/adapters/arrow"

var onHakmem = hakmemarrow.New(hakmemarrow.Options{IgnoreForeign: true})

type GoAllocator struct{}

func NewGoAllocator() *GoAllocator { return &GoAllocator{} }

func (*GoAllocator) Allocate(size int) []byte             { return onHakmem.Allocate(size) }
func (*GoAllocator) Reallocate(size int, b []byte) []byte { return onHakmem.Reallocate(size, b) }
func (*GoAllocator) Free(b []byte)                        { onHakmem.Free(b) }
`)
}
