// Command live does the work of an imaginary server with hakmem, and serves the live page on which one can
// watch its memory.
//
//	go run ./examples/live
//
// Then open http://localhost:6060/debug/hakmem/ in a browser, or run `hakmem top http://localhost:6060` in
// another terminal. Ctrl-C ends it.
//
// The server has sessions, small blocks of which some live for long; a cache of values, which is filled and
// emptied in turns; and uploads, large blocks that come in bursts. Each of the three is a site.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/hakmemhttp"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	os.Exit(start(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// start is main, except that it returns the exit status instead of ending the process.
func start(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	f := flag.NewFlagSet("live", flag.ContinueOnError)
	f.SetOutput(stderr)
	addr := f.String("addr", "localhost:6060", "`address` to serve the page at")
	trim := f.Bool("trim", false, "give the page a button that returns all free memory")
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case f.NArg() > 0:
		fmt.Fprintf(stderr, "live: unexpected argument %q: all settings are flags\n", f.Arg(0))
		return 2
	}
	if err := serve(ctx, *addr, *trim, stdout); err != nil {
		fmt.Fprintln(stderr, "live:", err)
		return 1
	}
	return 0
}

// serve works and serves the page until ctx is done.
func serve(ctx context.Context, addr string, trim bool, stdout io.Writer) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/debug/hakmem/", hakmemhttp.NewHandler(hakmemhttp.Options{AllowTrim: trim}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	fmt.Fprintf(stdout, "open http://%s/debug/hakmem/ in a browser, or run: hakmem top http://%s\n", listener.Addr(), listener.Addr())

	w := newWork(1)
	defer w.close()
	tick := time.NewTicker(stepTime)
	defer tick.Stop()
	for err == nil {
		select {
		case err = <-served: // Serve always returns an error
		case <-ctx.Done():
			ending, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			return server.Shutdown(ending)
		case <-tick.C:
			err = w.step()
		}
	}
	return errors.Join(err, hakmem.Err())
}
