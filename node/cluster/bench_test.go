package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape/plan"
	"github.com/effiscale/effiscale/node/cluster/relay"
	"github.com/effiscale/effiscale/node/cluster/trust"
)

// end is one node's calls on loopback, and what it signs with.
type end struct {
	id     *trust.Identity
	relay  *relay.Relay
	sealer *trust.Sealer
	addr   string
}

// ends are nodes that know each other, over real TLS.
func ends(b *testing.B, n int) []*end {
	b.Helper()
	all := make([]*end, n)
	find := func(id knowledge.NodeID) *end {
		for _, e := range all {
			if e.id.ID() == id {
				return e
			}
		}
		return nil
	}
	for i := range all {
		id, err := trust.NewIdentity(rand.NewChaCha8([32]byte{byte(i)}))
		if err != nil {
			b.Fatal(err)
		}
		all[i] = &end{id: id, sealer: &trust.Sealer{Identity: id, Epoch: 1_790_000_000}}
	}
	ack := func(context.Context, knowledge.NodeID, []byte) ([]byte, error) {
		return trust.Marshal(map[knowledge.ServiceKey]knowledge.Term(nil))
	}
	for _, e := range all {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		e.addr = l.Addr().String()
		e.relay, err = relay.New(relay.Options{
			Self: e.id, Listener: l, Log: zerolog.Nop(), Known: func(id knowledge.NodeID) bool { return find(id) != nil },
			Lookup:   func(id knowledge.NodeID) (string, bool) { return find(id).addr, true },
			Handlers: map[string]relay.Handler{"reports": {Serve: ack}, "intents": {Serve: ack}},
		})
		if err != nil {
			b.Fatal(err)
		}
		go func() { _ = e.relay.Serve(b.Context()) }()
		b.Cleanup(e.relay.Close)
	}
	return all
}

// reported is the report of a host of one service with one container that was watched for
// long: all numbers differ, as in production.
func reported(host knowledge.NodeID, i int) plan.Report {
	r := rand.New(rand.NewPCG(1, uint64(i)))
	some := func(n int64) int64 { return n/2 + r.Int64N(n) }
	id := fmt.Sprintf("%016x%016x%016x%016x", r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64())
	p := knowledge.Policy{
		Managed: true, Mode: knowledge.ModeAuto, ThrottleTarget: 0.06, MemoryPercentile: 0.98,
		ShrinksPerDay: 4,
		CPU:           knowledge.Range[knowledge.NanoCPU]{Max: 4 * knowledge.OneCPU},
		Memory:        knowledge.Range[knowledge.Bytes]{Max: 8 * knowledge.GiB},
		ObserveFirst:  10 * time.Minute, ShrinkAfter: 30 * time.Minute, OOMProtect: time.Hour, YieldFor: 10 * time.Minute,
		Weight: 50, CPUSource: "default", MemorySource: "default",
	}
	facts := plan.Facts{
		ObservedFor: time.Duration(some(1e15)), CPU: knowledge.NanoCPU(some(1e9)), CPUMax: knowledge.NanoCPU(some(3e9)),
		MemoryNeed: knowledge.Bytes(some(1 << 30)), MemoryPeak: knowledge.Bytes(some(1 << 31)),
	}
	host0 := knowledge.Host{CPUs: 8, Memory: 32 * knowledge.GiB}
	return plan.Report{
		Service: knowledge.ServiceKey(fmt.Sprintf("shop_service-%d", i)), Host: host, CPUs: 8, Memory: host0.Memory,
		Replicas: []plan.Reported{{
			ID: knowledge.ContainerID(id), Policy: p, Facts: facts,
			Envelope: plan.Deliberate(time.Unix(1_790_000_000, 0), facts, &p, host0, knowledge.Envelope{}),
			Stood:    time.Duration(some(1e13)), Quota: knowledge.NanoCPU(some(1e9)), Limit: knowledge.Bytes(some(1 << 31)),
			WorkingSet: knowledge.Bytes(some(1 << 30)),
		}},
	}
}

// BenchmarkBytes is one interval of a host with some services, none of which it owns:
// its reports to three owners each, and what the first of them declares, with all
// acknowledgements, over real TLS; TCP's and IP's headers not. "near" has the same
// three owners for all, as in a cluster of four, "far" has others for each, as in one
// of a thousand: a message and a signature for each service.
func BenchmarkBytes(b *testing.B) {
	const owners, interval = 3, 10 // s
	for _, far := range []bool{false, true} {
		for _, services := range []int{1, 10, 100} {
			b.Run(fmt.Sprintf("%s/%dservices", map[bool]string{false: "near", true: "far"}[far], services), func(b *testing.B) {
				all := ends(b, 1+owners)
				host, reports, intents := all[0], []plan.Report{}, []Declared{}
				for i := range services {
					r := reported(host.id.ID(), i)
					reports = append(reports, r)
					intents = append(intents, Declared{Intent: knowledge.Intent{
						Service: r.Service, Host: r.Host, Term: knowledge.Term{Round: 7, Owner: all[1].id.ID()}, Seq: 1000,
						Envelopes: []knowledge.Assigned{{ID: r.Replicas[0].ID, Envelope: r.Replicas[0].Envelope}},
					}})
				}
				part := services
				if far {
					part = 1
				}
				send := func(from, to *end, kind string, v any) {
					body, err := from.sealer.Seal(kind, to.id.ID(), to.sealer.Epoch, v)
					if err == nil {
						_, err = from.relay.Call(b.Context(), to.id.ID(), kind, body)
					}
					if err != nil {
						b.Fatal(err)
					}
				}
				round := func() {
					for at := 0; at < services; at += part {
						for _, owner := range all[1:] {
							send(host, owner, "reports", reports[at:at+part])
						}
						send(all[1], host, "intents", intents[at:at+part])
					}
				}
				round() // handshakes
				first, n := wire(host), 0
				for b.Loop() {
					round()
					n++
				}
				b.ReportMetric(float64(wire(host)-first)/float64(n*services*interval), "B/host/service/s")
			})
		}
	}
}

// wire is how many bytes a node has sent and received.
func wire(e *end) (n uint64) {
	for _, p := range e.relay.Stats().Peers {
		n += p.In + p.Out
	}
	return n
}
