package hakmempprof_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/hakmempprof"
)

// profiled turns the profile on. A program does this before it first allocates with hakmem.
func profiled() {
	if err := hakmem.Configure(hakmem.Options{ProfileRate: 512 << 10}); err != nil && !errors.Is(err, hakmem.ErrConfigured) {
		panic(err)
	}
}

func ExampleHandler() {
	profiled()
	mux := http.NewServeMux() // or http.Handle, next to import _ "net/http/pprof"
	mux.Handle("GET /debug/pprof/hakmem", hakmempprof.Handler())

	server := httptest.NewServer(mux) // http.ListenAndServe("localhost:6060", mux)
	defer server.Close()
	for _, query := range []string{"", "?seconds=1", "?debug=1", "?seconds=soon"} {
		r, err := http.Get(server.URL + "/debug/pprof/hakmem" + query)
		if err != nil {
			panic(err)
		}
		r.Body.Close()
		fmt.Printf("%s, %s, %q\n", r.Status, r.Header.Get("Content-Type"), r.Header.Get("Content-Disposition"))
	}
	// Output:
	// 200 OK, application/octet-stream, "attachment; filename=\"hakmem\""
	// 200 OK, application/octet-stream, "attachment; filename=\"hakmem-delta\""
	// 200 OK, text/plain; charset=utf-8, ""
	// 400 Bad Request, text/plain; charset=utf-8, ""
}

func ExampleWriteLeaks() {
	profiled() // or HAKMEM_PROFILE_RATE=1 in the environment, which lists every block

	// A program has this line at the beginning of main.
	defer hakmempprof.WriteLeaks(os.Stderr)

	hakmem.FreeBytes(hakmem.Alloc(10 << 20)) // what is not freed is listed
	// Output:
}

func ExampleWriteProfile() {
	profiled()
	block := hakmem.Alloc(10 << 20)
	defer hakmem.FreeBytes(block)

	f, err := os.CreateTemp("", "hakmem-*.pprof") // for go tool pprof -top
	if err != nil {
		panic(err)
	}
	defer os.Remove(f.Name())
	fmt.Println(hakmempprof.WriteProfile(f), f.Close())
	// Output: <nil> <nil>
}
