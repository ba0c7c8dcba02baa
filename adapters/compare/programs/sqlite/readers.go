package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"time"

	"modernc.org/sqlite"
	"modernc.org/sqlite/pcache"

	"github.com/hakmem/hakmem/adapters/compare/internal/measure"
	hakmemsqlite "github.com/hakmem/hakmem/adapters/sqlite"
)

const (
	fullStored  = 200_000 // rows of some 250 bytes, so 50 MB
	fullReads   = 400_000 // of all readers together
	readsInTx   = 1000    // of a transaction, in which a reader holds its lock of the file
	scanEvery   = 100     // one read in so many reads rowsOfScan rows
	rowsOfScan  = 500
	cacheKiB    = 128 << 10 // of each connection: the whole database fits
	storedBytes = 230
)

func readersFile(s measure.Setting) string { return filepath.Join(s.Dir, "readers.db") }

// prepareReaders writes the database that all variants read.
func prepareReaders(s measure.Setting) error {
	db, err := sql.Open("sqlite", "file:"+filepath.ToSlash(readersFile(s))+"?_pragma=synchronous(OFF)")
	if err != nil {
		return err
	}
	_, err = db.Exec(fmt.Sprintf(`CREATE TABLE t AS WITH RECURSIVE c(x) AS (SELECT 0 UNION ALL SELECT x+1 FROM c WHERE x < %d)
		SELECT x AS k, x %% 1000 AS n, hex(zeroblob(%d)) AS v FROM c; CREATE UNIQUE INDEX i ON t(k)`, s.Of(fullStored)-1, storedBytes/2))
	return errors.Join(err, db.Close())
}

// beginReaders opens the database, a connection for each goroutine.
func beginReaders(s measure.Setting) (measure.Job, error) {
	var pool *hakmemsqlite.Pool
	var err error
	switch s.Variant {
	case today:
	case reference:
		err = sqlite.RegisterPageCache(pcache.New())
	case ourCache, both:
		pool = hakmemsqlite.New(hakmemsqlite.Options{})
		err = sqlite.RegisterPageCache(pool)
	default:
		err = measure.UnknownVariant(s)
	}
	if err != nil {
		return measure.Job{}, err
	}
	readers := make([]*reader, s.Goroutines)
	for g := range readers {
		db, err := sql.Open("sqlite", fmt.Sprintf("file:%s?mode=ro&_pragma=cache_size(-%d)", filepath.ToSlash(readersFile(s)), cacheKiB))
		if err != nil {
			return measure.Job{}, err
		}
		db.SetMaxOpenConns(1)
		readers[g] = &reader{db: db, stored: s.Of(fullStored), reads: max(s.Of(fullReads)/s.Goroutines, 1), rng: rand.New(rand.NewPCG(uint64(g), 2))}
	}
	return measure.Job{
		Work: func(m *measure.Meter) error {
			err := measure.Together(len(readers), func(g int) error { return readers[g].run() })
			for _, r := range readers {
				m.AddLatency(&r.latency)
				m.AddSum(r.sum)
			}
			return err
		},
		Close: func(*measure.Meter) error {
			var errs []error
			for _, r := range readers {
				errs = append(errs, r.db.Close())
			}
			if pool != nil {
				errs = append(errs, pool.Close())
			}
			return errors.Join(errs...)
		},
	}, nil
}

// reader is one goroutine with a connection of its own.
type reader struct {
	db            *sql.DB
	stored, reads int
	rng           *rand.Rand

	latency measure.Histogram
	sum     uint64
}

func (r *reader) run() error {
	one, err := r.db.Prepare(`SELECT n, length(v) FROM t WHERE k = ?`)
	if err != nil {
		return err
	}
	defer one.Close()
	some, err := r.db.Prepare(`SELECT sum(n), sum(length(v)) FROM (SELECT n, v FROM t WHERE k >= ? LIMIT ?)`)
	if err != nil {
		return err
	}
	defer some.Close()
	for from := 0; from < r.reads; from += readsInTx {
		if err := r.transaction(one, some, min(readsInTx, r.reads-from)); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) transaction(one, some *sql.Stmt, reads int) error {
	tx, err := r.db.BeginTx(context.Background(), &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	one, some = tx.Stmt(one), tx.Stmt(some)
	for i := range reads {
		var n, length int
		key := r.rng.IntN(r.stored)
		began := time.Now()
		if i%scanEvery == 0 {
			err = some.QueryRow(key, rowsOfScan).Scan(&n, &length)
		} else {
			err = one.QueryRow(key).Scan(&n, &length)
		}
		r.latency.Record(time.Since(began))
		if err != nil {
			return errors.Join(err, tx.Rollback())
		}
		r.sum += uint64(n + length)
	}
	return tx.Commit()
}
