package member

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/knowledge"
)

// idOf is a node's id as it is in life.
func idOf(i int) knowledge.NodeID {
	return knowledge.NodeID(hex.EncodeToString(fmt.Appendf(nil, "%016d", i)))
}

func keyOf(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

// record is a log that a test can read.
type record struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (r *record) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.Write(b)
}

// count is in how many lines s is.
func (r *record) count(s string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for line := range strings.Lines(r.b.String()) {
		if strings.Contains(line, s) {
			n++
		}
	}
	return n
}

func (r *record) logger() zerolog.Logger { return zerolog.New(r).Level(zerolog.InfoLevel) }

// options of node i on loopback, with key 1.
func options(i int) Options {
	return Options{
		ID: idOf(i), Cluster: "test", Bind: "127.0.0.1:0", Keys: [][]byte{keyOf(1)},
		Meta:        Meta{Name: fmt.Sprint("host", i), Version: "1.0", Protocol: Protocol, Relay: "127.0.0.1:1"},
		RejoinEvery: 200 * time.Millisecond,
	}
}

// start opens a node and runs it until the test ends.
func start(t testing.TB, o Options) *Members {
	t.Helper()
	m, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); m.Run(t.Context()) }()
	t.Cleanup(func() {
		_ = m.Close()
		<-done
	})
	return m
}

// three is a cluster on loopback; change may alter the options of each.
func three(t *testing.T, change func(i int, o *Options)) []*Members {
	t.Helper()
	var all []*Members
	for i := range 3 {
		o := options(i)
		if i > 0 {
			o.Join = []string{all[0].Addr()}
		}
		if change != nil {
			change(i, &o)
		}
		all = append(all, start(t, o))
	}
	eventually(t, "three see three", func() bool { return see(all, 3) })
	return all
}

// see: each of the nodes sees n alive.
func see(all []*Members, n int) bool {
	for _, m := range all {
		if alive(m) != n {
			return false
		}
	}
	return true
}

func alive(m *Members) (n int) {
	for _, p := range m.Peers() {
		if p.Alive {
			n++
		}
	}
	return n
}

func peerOf(m *Members, id knowledge.NodeID) Peer {
	for _, p := range m.Peers() {
		if p.ID == id {
			return p
		}
	}
	return Peer{}
}

// eventually waits 15 s at most.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not in 15 s: %s", what)
		}
	}
}

func udp(t *testing.T, to string) net.Conn {
	t.Helper()
	c, err := net.Dial("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func heap() uint64 {
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}
