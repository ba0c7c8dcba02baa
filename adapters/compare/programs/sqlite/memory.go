package main

import (
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/adapters/compare/internal/measure"
)

const (
	fullRows     = 200_000
	writesInTx   = 500
	scans        = 5
	leastText    = 100
	mostText     = 500
	rowsOfUpdate = 4 // one update for so many rows
)

// store is the work of one goroutine: a database in memory, and rows of its own.
type store struct {
	db   *sql.DB
	rows int
	rng  *rand.Rand
	text []byte // of which values are parts

	latency measure.Histogram
	sum     uint64
}

// beginMemory makes databases in memory, one for each goroutine.
func beginMemory(s measure.Setting) (measure.Job, error) {
	if s.Variant != today && s.Variant != onHakmem {
		return measure.Job{}, measure.UnknownVariant(s)
	}
	stores := make([]*store, s.Goroutines)
	for g := range stores {
		db, err := sql.Open("sqlite", ":memory:")
		if err != nil {
			return measure.Job{}, err
		}
		db.SetMaxOpenConns(1) // another connection would have another database
		st := &store{db: db, rows: max(s.Of(fullRows)/s.Goroutines, 1), rng: rand.New(rand.NewPCG(uint64(g), 1)), text: make([]byte, 2*mostText)}
		for i := range st.text {
			st.text[i] = byte('a' + st.rng.IntN(26))
		}
		stores[g] = st
	}
	return measure.Job{
		Work: func(m *measure.Meter) error { return work(m, stores) },
		Close: func(*measure.Meter) error {
			var errs []error
			for _, st := range stores {
				errs = append(errs, st.db.Close())
			}
			if s.Variant == onHakmem {
				hakmem.Trim() // as the adapter's README says
			}
			return errors.Join(errs...)
		},
	}, nil
}

// work runs one step after the other, each in all goroutines.
func work(m *measure.Meter, stores []*store) error {
	for _, step := range []struct {
		name string
		run  func(*store) error
	}{
		{"insert", (*store).insert},
		{"read", (*store).read},
		{"update", (*store).update},
		{"scan", (*store).scan},
		{"vacuum", (*store).vacuum},
	} {
		err := m.Phase(step.name, func() error {
			return measure.Together(len(stores), func(g int) error { return step.run(stores[g]) })
		})
		if err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	for _, st := range stores {
		m.AddLatency(&st.latency)
		m.AddSum(st.sum)
	}
	return nil
}

// value is a text of random length.
func (st *store) value() string {
	return string(st.text[st.rng.IntN(mostText):][:leastText+st.rng.IntN(mostText-leastText)])
}

// timed runs one operation and records how long it takes.
func (st *store) timed(f func() error) error {
	began := time.Now()
	err := f()
	st.latency.Record(time.Since(began))
	return err
}

// statement prepares a statement of the database for the time of a call of f.
func (st *store) statement(query string, f func(*sql.Stmt) error) error {
	stmt, err := st.db.Prepare(query)
	if err != nil {
		return err
	}
	return errors.Join(f(stmt), stmt.Close())
}

func (st *store) insert() error {
	if _, err := st.db.Exec(`CREATE TABLE t(k INTEGER PRIMARY KEY, n INT, v TEXT); CREATE INDEX i ON t(n)`); err != nil {
		return err
	}
	return st.write(`INSERT INTO t VALUES(?, ?, ?)`, st.rows, func(stmt *sql.Stmt, i int) error {
		_, err := stmt.Exec(i, st.rng.IntN(st.rows), st.value())
		return err
	})
}

// write runs a statement n times, in transactions. (SQLite looks at every page of a database in memory when a
// transaction ends.)
func (st *store) write(query string, n int, f func(stmt *sql.Stmt, i int) error) error {
	return st.statement(query, func(prepared *sql.Stmt) error {
		for from := 0; from < n; from += writesInTx {
			tx, err := st.db.Begin()
			if err != nil {
				return err
			}
			stmt := tx.Stmt(prepared)
			for i := from; i < min(from+writesInTx, n); i++ {
				if err := st.timed(func() error { return f(stmt, i) }); err != nil {
					return errors.Join(err, tx.Rollback())
				}
			}
			if err := tx.Commit(); err != nil {
				return err
			}
		}
		return nil
	})
}

func (st *store) read() error {
	return st.statement(`SELECT n, v FROM t WHERE k = ?`, func(stmt *sql.Stmt) error {
		for range st.rows {
			var n int
			var v string
			if err := st.timed(func() error { return stmt.QueryRow(st.rng.IntN(st.rows)).Scan(&n, &v) }); err != nil {
				return err
			}
			st.sum += uint64(n + len(v))
		}
		return nil
	})
}

func (st *store) update() error {
	return st.write(`UPDATE t SET n = n + 1, v = v || ? WHERE k = ?`, st.rows/rowsOfUpdate, func(stmt *sql.Stmt, _ int) error {
		_, err := stmt.Exec(st.value(), st.rng.IntN(st.rows))
		return err
	})
}

// scan sorts a tenth of the rows by their text, which SQLite does in memory, and adds up all of them.
func (st *store) scan() error {
	for i := range scans {
		if err := st.sort(i % 10); err != nil {
			return err
		}
		var n, length int
		if err := st.db.QueryRow(`SELECT sum(n), sum(length(v)) FROM t`).Scan(&n, &length); err != nil {
			return err
		}
		st.sum += uint64(n + length)
	}
	return nil
}

// sort reads one row in ten, ordered by its text. The order is in the sum.
func (st *store) sort(digit int) error {
	rows, err := st.db.Query(`SELECT k FROM t WHERE k % 10 = ? ORDER BY v, k`, digit)
	if err != nil {
		return err
	}
	defer rows.Close()
	for at := uint64(1); rows.Next(); at++ {
		var k int
		if err := rows.Scan(&k); err != nil {
			return err
		}
		st.sum += at * uint64(k)
	}
	return rows.Err()
}

func (st *store) vacuum() error {
	_, err := st.db.Exec(`DELETE FROM t WHERE k % 2 = 0; VACUUM`)
	return err
}
