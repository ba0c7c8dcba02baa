package hakmemsqlite_test

import (
	"database/sql"
	"fmt"

	"modernc.org/sqlite"
)

func Example() {
	// A program has one pool: pool is hakmemsqlite.New(hakmemsqlite.Options{Bytes: 256 << 10}).
	sqlite.MustRegisterPageCache(pool)

	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		panic(err)
	}
	db.SetMaxOpenConns(1) // each connection to :memory: has a database of its own
	if _, err := db.Exec(`CREATE TABLE t(k); INSERT INTO t VALUES (1), (2), (3)`); err != nil {
		panic(err)
	}
	var sum int
	if err := db.QueryRow(`SELECT sum(k) FROM t`).Scan(&sum); err != nil {
		panic(err)
	}
	fmt.Println("sum:", sum)
	fmt.Println("pages:", pool.Stats().Pages > 0)
	if err := db.Close(); err != nil {
		panic(err)
	}
	fmt.Println("pages after close:", pool.Stats().Pages)
	fmt.Println(pool.Close()) // returns the memory to the system at once
	// Output:
	// sum: 6
	// pages: true
	// pages after close: 0
	// <nil>
}
