package hakmemhttp_test

import (
	"log"
	"net/http"

	"github.com/hakmem/hakmem/hakmemhttp"
)

func Example() {
	http.Handle("/debug/hakmem/", hakmemhttp.Handler())
	log.Fatal(http.ListenAndServe("localhost:6060", nil))
}

// A page for other machines, behind a password.
func ExampleNewHandler() {
	page := hakmemhttp.NewHandler(hakmemhttp.Options{Hosts: []string{"metrics.example.org"}})
	http.HandleFunc("/debug/hakmem/", func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); password != "…" {
			w.Header().Set("WWW-Authenticate", "Basic")
			http.Error(w, "a password is needed", http.StatusUnauthorized)
			return
		}
		page.ServeHTTP(w, r)
	})
}
