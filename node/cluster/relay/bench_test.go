package relay

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/effiscale/effiscale/knowledge"
)

// likeReports is what sealed reports look like: ids and signatures that do not
// pack, numbers and names that do.
func likeReports(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, 0, n+64)
	for len(b) < 130 { // key and signature
		b = append(b, byte(r.Uint32()))
	}
	for i := 0; len(b) < n; i++ {
		b = fmt.Appendf(b, "%016x", r.Uint64())
		for range 6 {
			b = binary.BigEndian.AppendUint64(append(b, 0x1b), uint64(i)<<20+uint64(r.Uint32N(1<<16)))
		}
	}
	return b[:n]
}

// BenchmarkCall over a warm connection on loopback, answered with 16 bytes: time,
// and bytes on the wire both ways, TLS included, TCP's and IP's headers not.
func BenchmarkCall(b *testing.B) {
	for _, size := range []int{300, 2 << 10, 20 << 10} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			w := newTown(b)
			to := w.settle(map[string]Handler{"report": {Serve: func(context.Context, knowledge.NodeID, []byte) ([]byte, error) {
				return make([]byte, 16), nil
			}}}, nil)
			from := w.settle(nil, nil)
			body := likeReports(size)
			call := func() {
				if _, err := from.Call(b.Context(), to.ID(), "report", body); err != nil {
					b.Fatal(err)
				}
			}
			call()
			first, n := from.stat(to.ID()), 0
			for b.Loop() {
				call()
				n++
			}
			last := from.stat(to.ID())
			b.ReportMetric(float64(last.Out-first.Out)/float64(n), "out-B/op")
			b.ReportMetric(float64(last.In-first.In)/float64(n), "in-B/op")
			b.ReportMetric(float64(first.Out), "handshake-out-B")
			b.ReportMetric(float64(first.In), "handshake-in-B")
		})
	}
}
