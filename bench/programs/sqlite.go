package main

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// What runSQLite does. The numbers are such that the recording has some 100,000 calls, and the database some MiB.
const (
	sqliteRows      = 20_000
	sqliteBatch     = 1000 // rows of a transaction
	sqliteCustomers = 500
	sqliteLookups   = 8000
	sqliteLists     = 200
	sqliteUpdates   = 3000
	sqliteNote      = 400 // bytes of the longest note
)

// runSQLite keeps orders in a database in memory: it inserts, reads, updates, deletes, scans and vacuums.
func runSQLite(r *recorder) error {
	return r.turn(0, func() (err error) {
		db, err := sql.Open("sqlite", ":memory:")
		if err != nil {
			return err
		}
		db.SetMaxOpenConns(1) // another connection would have another database
		defer func() {
			if e := db.Close(); err == nil {
				err = e
			}
		}()
		s := shop{db: db, rng: rand.New(rand.NewPCG(1, 0))}
		if _, err := db.Exec(`CREATE TABLE orders(id INTEGER PRIMARY KEY, customer INT, item TEXT, note BLOB);
			CREATE INDEX by_customer ON orders(customer, item)`); err != nil {
			return err
		}
		for _, step := range []func() error{s.insert, s.lookUp, s.list, s.update, s.scan, s.delete, s.scan, s.vacuum, s.lookUp} {
			if err := step(); err != nil {
				return err
			}
		}
		return nil
	})
}

// shop is the database of runSQLite, and what must be in it.
type shop struct {
	db   *sql.DB
	rng  *rand.Rand
	note [sqliteRows]int // bytes of each row's note, by ID; -1: the row was deleted
}

// newNote returns a note of random length, whose bytes are all the same.
func (s *shop) newNote(id int) []byte {
	b := make([]byte, s.rng.IntN(sqliteNote))
	for i := range b {
		b[i] = byte(id)
	}
	s.note[id] = len(b)
	return b
}

func (s *shop) insert() error {
	for from := 0; from < sqliteRows; from += sqliteBatch {
		err := s.inTransaction(`INSERT INTO orders VALUES(?, ?, ?, ?)`, func(row *sql.Stmt) error {
			for id := from; id < from+sqliteBatch; id++ {
				if _, err := row.Exec(id, s.rng.IntN(sqliteCustomers), fmt.Sprintf("item %d", s.rng.IntN(1000)), s.newNote(id)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// inTransaction calls do with a prepared statement in a transaction, and commits it.
func (s *shop) inTransaction(statement string, do func(*sql.Stmt) error) error {
	tx, err := s.db.BeginTx(context.Background(), nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // does nothing after Commit
	row, err := tx.Prepare(statement)
	if err != nil {
		return err
	}
	defer row.Close()
	if err := do(row); err != nil {
		return err
	}
	return tx.Commit()
}

// lookUp reads single orders by their key, each by a statement of its own.
func (s *shop) lookUp() error {
	for range sqliteLookups / 2 {
		id := s.rng.IntN(sqliteRows)
		var item string
		var note []byte
		switch err := s.db.QueryRow(`SELECT item, note FROM orders WHERE id = ?`, id).Scan(&item, &note); {
		case err == sql.ErrNoRows && s.note[id] < 0:
		case err != nil:
			return err
		case len(note) != s.note[id]:
			return fmt.Errorf("the note of order %d has %d bytes, want %d", id, len(note), s.note[id])
		}
	}
	return nil
}

// list reads the orders of customers, sorted by something that no index has.
func (s *shop) list() error {
	for range sqliteLists {
		rows, err := s.db.Query(`SELECT id, item, note FROM orders WHERE customer = ? ORDER BY length(note), id`, s.rng.IntN(sqliteCustomers))
		if err != nil {
			return err
		}
		last := -1
		for rows.Next() {
			var id int
			var item string
			var note []byte
			if err := rows.Scan(&id, &item, &note); err != nil {
				return err
			}
			if len(note) < last {
				return fmt.Errorf("order %d with %d bytes comes after one with %d", id, len(note), last)
			}
			last = len(note)
		}
		if err := rows.Close(); err != nil {
			return err
		}
	}
	return nil
}

// update gives orders other notes, of another length.
func (s *shop) update() error {
	return s.inTransaction(`UPDATE orders SET note = ?, item = item || '.' WHERE id = ?`, func(row *sql.Stmt) error {
		for range sqliteUpdates {
			id := s.rng.IntN(sqliteRows)
			if _, err := row.Exec(s.newNote(id), id); err != nil {
				return err
			}
		}
		return nil
	})
}

// delete deletes a quarter of the orders.
func (s *shop) delete() error {
	_, err := s.db.Exec(`DELETE FROM orders WHERE id % 4 = 1`)
	for id := 1; id < sqliteRows; id += 4 {
		s.note[id] = -1
	}
	return err
}

// scan reads everything, grouped by customer and sorted by the result.
func (s *shop) scan() error {
	rows, err := s.db.Query(`SELECT customer, count(*), sum(length(note)), max(item) FROM orders GROUP BY customer ORDER BY 3 DESC`)
	if err != nil {
		return err
	}
	defer rows.Close()
	orders, bytes := 0, 0
	for rows.Next() {
		var customer, n, length int
		var item string
		if err := rows.Scan(&customer, &n, &length, &item); err != nil {
			return err
		}
		orders += n
		bytes += length
	}
	for _, n := range s.note {
		if n >= 0 {
			orders--
			bytes -= n
		}
	}
	if orders != 0 || bytes != 0 {
		return fmt.Errorf("a scan finds %d orders and %d bytes too many", orders, bytes)
	}
	return rows.Err()
}

func (s *shop) vacuum() error {
	_, err := s.db.Exec(`VACUUM`)
	return err
}
