package hakmemsqlite_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hakmem/hakmem"
	hakmemsqlite "github.com/hakmem/hakmem/adapters/sqlite"
	"modernc.org/sqlite"
)

// withoutPool makes the test binary run SQLite with its own cache: a cache cannot be taken back.
const withoutPool = "HAKMEMSQLITE_TEST_WITHOUT"

// budget is small, so that the connections of the workload take pages from each other.
const budget = 256 << 10

var pool = hakmemsqlite.New(hakmemsqlite.Options{Bytes: budget})

// countersRace says why several connections do not work at a time here with the race detector.
const countersRace = "skipped with -race: SQLite guards its counters of page memory by a mutex that only its own page cache makes, " +
	"so with any other cache the race detector reports these counters"

func TestMain(m *testing.M) {
	if os.Getenv(withoutPool) == "" {
		sqlite.MustRegisterPageCache(pool)
	}
	os.Exit(m.Run())
}

// load is a way to run the workload.
type load struct {
	where      string // "memory" or "disk"
	goroutines int
}

var loads = []load{{"memory", 1}, {"memory", 4}, {"disk", 1}, {"disk", 4}}

func (l load) String() string { return fmt.Sprintf("%s %d", l.where, l.goroutines) }

// open opens a database. On disk the goroutines share one; in memory each has its own.
func (l load) open(t *testing.T, dir string) *sql.DB {
	t.Helper()
	dsn := ":memory:"
	if l.where == "disk" {
		dsn = "file:" + filepath.Join(dir, "w.db") + "?_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)&_txlock=immediate"
	}
	db, err := sql.Open("sqlite", dsn+map[bool]string{true: "?", false: "&"}[dsn == ":memory:"]+
		"_pragma=busy_timeout(60000)&_pragma=cache_size(100000)&_pragma=auto_vacuum(INCREMENTAL)")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	return db
}

// run runs the workload and returns a sum of all that SQLite answered.
func (l load) run(t *testing.T, rows int) string {
	dir := t.TempDir()
	sums := make([]string, l.goroutines)
	var dbs []*sql.DB
	for range l.goroutines {
		db := l.open(t, dir)
		defer db.Close()
		// The table is made before the goroutines begin.
		if _, err := db.Exec(`CREATE TABLE IF NOT EXISTS t(g INT, k INT, v BLOB, n INT, PRIMARY KEY(g, k)); CREATE INDEX IF NOT EXISTS i ON t(g, n)`); err != nil {
			t.Fatal(err)
		}
		dbs = append(dbs, db)
	}
	var wg sync.WaitGroup
	for g, db := range dbs {
		wg.Go(func() {
			sum, err := work(t.Context(), db, g, rows)
			if err != nil {
				t.Errorf("goroutine %d: %v", g, err)
			}
			sums[g] = sum
		})
	}
	wg.Wait()
	for g, db := range dbs {
		var ok string
		if err := db.QueryRow(`PRAGMA integrity_check`).Scan(&ok); err != nil || ok != "ok" {
			t.Errorf("integrity_check of connection %d: %q, %v", g, ok, err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
	return fmt.Sprintf("%x", sha256.Sum256([]byte(strings.Join(sums, ","))))
}

// work inserts, updates, deletes, scans and vacuums, in rows of its own, and sums up what it reads.
func work(ctx context.Context, db *sql.DB, g, rows int) (string, error) {
	r := rand.New(rand.NewPCG(uint64(g), 7))
	sum := sha256.New()
	blob := make([]byte, 400)
	for from := 0; from < rows; from += 500 {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return "", err
		}
		for k := from; k < from+500; k++ {
			for i := range blob {
				blob[i] = byte(r.Uint32())
			}
			if _, err := tx.Exec(`INSERT INTO t VALUES(?, ?, ?, ?)`, g, k, blob[:100+r.IntN(300)], r.IntN(1000)); err != nil {
				return "", err
			}
		}
		for range 50 {
			if _, err := tx.Exec(`UPDATE t SET n = n + 1, v = v || zeroblob(50) WHERE g = ? AND k = ?`, g, r.IntN(from+500)); err != nil {
				return "", err
			}
		}
		if _, err := tx.Exec(`DELETE FROM t WHERE g = ? AND n % 11 = ?`, g, r.IntN(11)); err != nil {
			return "", err
		}
		end := tx.Commit
		if from%2000 == 1000 {
			end = tx.Rollback
		}
		if err := end(); err != nil {
			return "", err
		}
		for _, query := range []string{
			`SELECT k, hex(v), n FROM t WHERE g = ? AND n BETWEEN 100 AND 160 ORDER BY n, k`,
			`SELECT count(*), sum(length(v)), sum(n) FROM t WHERE g = ?`,
		} {
			if err := answers(sum, db, query, g); err != nil {
				return "", err
			}
		}
		if _, err := db.ExecContext(ctx, `PRAGMA incremental_vacuum(20)`); err != nil {
			return "", err
		}
	}
	err := answers(sum, db, `SELECT k, hex(v), n FROM t WHERE g = ? ORDER BY k`, g)
	return fmt.Sprintf("%x", sum.Sum(nil)), err
}

// answers writes all rows of a query's answer.
func answers(to interface{ Write([]byte) (int, error) }, db *sql.DB, query string, g int) error {
	rows, err := db.Query(query, g)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var a, b, c sql.NullString
		if err := rows.Scan(&a, &b, &c); err != nil {
			return err
		}
		fmt.Fprintln(to, a.String, b.String, c.String)
	}
	return rows.Err()
}

// rowsOf is how many rows each goroutine inserts: some MB, more than the budget.
func rowsOf() int {
	if testing.Short() {
		return 3000
	}
	return 6000
}

// TestWithout is run by TestWorkload in a process whose SQLite has its own cache.
func TestWithout(t *testing.T) {
	if os.Getenv(withoutPool) == "" {
		t.Skip("skipped: TestWorkload runs it, in a process of its own")
	}
	for _, l := range loads {
		fmt.Printf("sum of %v: %s\n", l, l.run(t, rowsOf()))
	}
}

// TestWorkload: SQLite answers the same with its pages in hakmem as without, whatever the connections take
// from each other, and the memory is given back.
func TestWorkload(t *testing.T) {
	args := []string{"-test.run=^TestWithout$"}
	if testing.Short() {
		args = append(args, "-test.short")
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), withoutPool+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want := map[string]string{}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		if line, ok := strings.CutPrefix(lines.Text(), "sum of "); ok {
			name, sum, _ := strings.Cut(line, ": ")
			want[name] = sum
		}
	}
	for _, l := range loads {
		t.Run(l.String(), func(t *testing.T) {
			if raceDetector && l.goroutines > 1 {
				t.Skip(countersRace)
			}
			before := pool.Stats()
			blocks := liveBlocks()
			if got := l.run(t, rowsOf()); got != want[l.String()] {
				t.Errorf("the sum of all answers is %s, without the pool %q", got, want[l.String()])
			}
			after := pool.Stats()
			if after.Hits == before.Hits || after.Misses == before.Misses {
				t.Errorf("SQLite did not use the pool: %+v, %+v", before, after)
			}
			if l.where == "disk" && after.Evictions == before.Evictions {
				t.Errorf("the budget was not reached: %+v, %+v", before, after)
			}
			if after.Databases != 0 || after.Bytes != 0 || liveBlocks() != blocks {
				t.Errorf("after close there are %d blocks, before %d; %+v", liveBlocks(), blocks, after)
			}
		})
	}
}

func liveBlocks() uint64 {
	var s hakmem.Stats
	hakmem.ReadStats(&s)
	return s.LiveBlocks + s.Guard.Live
}

// TestMemoryComesBack: a database in memory has a site of its own, and after its close the system has the memory.
func TestMemoryComesBack(t *testing.T) {
	resident := func() int64 {
		var s hakmem.Stats
		hakmem.ReadStats(&s)
		return int64(s.Resident)
	}
	if err := pool.Close(); err != nil {
		t.Fatal(err)
	}
	before := resident()
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	defer db.Close()
	if _, err := db.Exec(`CREATE TABLE t AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x < 20000) SELECT x, randomblob(1000) AS v FROM c`); err != nil {
		t.Fatal(err)
	}
	const size = 20 << 20 // 20,000 rows of 1 KB
	if grown := resident() - before; grown < size {
		t.Errorf("a database of %d bytes in memory made hakmem grow by %d", size, grown)
	}
	var bySite uint64
	var s hakmem.Stats
	hakmem.ReadStats(&s)
	for _, site := range s.Sites {
		if strings.HasPrefix(site.Name, "sqlite memory ") {
			bySite += site.LiveBytes
		}
	}
	if bySite < size {
		t.Errorf("the sites of databases in memory have %d bytes, want %d at least", bySite, size)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := pool.Close(); err != nil {
		t.Fatal(err)
	}
	if left := resident() - before; left > size/10 {
		t.Errorf("after close and Close %d bytes are still resident", left)
	}
}

// TestSharedCache: two connections may share one cache, which several goroutines call in turn.
func TestSharedCache(t *testing.T) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "s.db")+"?cache=shared&_pragma=journal_mode(WAL)&_pragma=busy_timeout(60000)&_pragma=cache_size(16)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`CREATE TABLE t(g INT, k INT, v BLOB)`); err != nil {
		t.Fatal(err)
	}
	const writers, rows = 2, 200
	var wg sync.WaitGroup
	for g := range writers {
		wg.Go(func() {
			conn, err := db.Conn(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			for k := 0; k < rows; {
				_, err := conn.ExecContext(t.Context(), `INSERT INTO t VALUES(?, ?, randomblob(500))`, g, k)
				if err != nil && strings.Contains(err.Error(), "locked") {
					continue // a table of a shared cache has locks that nobody waits for
				}
				if err != nil {
					t.Error(err)
					return
				}
				k++
			}
		})
	}
	wg.Wait()
	var n int
	var ok string
	if err := db.QueryRow(`SELECT count(*) FROM t`).Scan(&n); err != nil || n != writers*rows {
		t.Errorf("there are %d rows, want %d, %v", n, writers*rows, err)
	}
	if err := db.QueryRow(`PRAGMA integrity_check`).Scan(&ok); err != nil || ok != "ok" {
		t.Errorf("integrity_check: %q, %v", ok, err)
	}
}
