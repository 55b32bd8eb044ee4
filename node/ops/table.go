package ops

import (
	"context"

	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/cluster/relay"
)

// row binds an operation to its answer, and to the method by which other hosts ask for this
// host's part of it.
type row struct {
	route  *api.Route // nil: only hosts ask
	method answers    // nil: hosts do not ask
}

func serve[Q, R any](op api.Operation[Q, R], run func(context.Context, Q) (R, error)) *api.Route {
	r := op.Serve(run)
	return &r
}

// table lists the operations. One that is new needs its row in node/api/operations.go, a file
// here, and its line in this table.
func (s *Set) table() []row {
	find := resolver{s.host, s.peers}
	return []row{
		{serve(api.OpHealth, s.healthy), nil},
		{serve(api.OpStatus, s.Status), s.status.method()},
		{serve(api.OpPlan, s.Plan), s.plan.method()},
		{serve(api.OpExplain, s.Explain), s.explain.method()},
		{serve(api.OpRecords, s.Records), s.records},
		{serve(api.OpAllRecords, s.AllRecords), nil}, // by the method of OpRecords
		{serve(api.OpTrace, s.Trace), s.trace.method()},
		{serve(api.OpScale, s.Scale), s.scale.method()},
		{serve(api.OpPause, s.Pause), s.pause.method()},
		{serve(api.OpRestore, s.Restore), s.restore.method()},
		{serve(api.OpReload, s.Reload), nil},
		{serve(api.OpMembers, s.Members), s.members.method()},
		{serve(api.OpJoin, s.Join), nil},
		{serve(api.OpLeave, s.Leave), nil},
		{serve(api.OpKeys, s.Keys), s.keys.method()},
		{serve(api.OpKeyChange, s.KeyChange), nil}, // by the method of OpKeys
		// The public services call Decide and Leader; the rest is how a name is looked up.
		{nil, s.controllers.method()},
		{nil, find.serviceMethod()},
		{nil, find.method()},
		{nil, s.explain.where()},
		{nil, s.Reach.method()},
	}
}

// Backend answers the socket and the three services.
func (s *Set) Backend() api.Backend {
	b := api.Backend{Node: s, Monitor: s, Controller: s, Execution: s}
	for _, r := range s.table() {
		if r.route != nil {
			b.Routes = append(b.Routes, *r.route)
		}
	}
	return b
}

// Handlers answer other hosts.
func (s *Set) Handlers() map[string]relay.Handler {
	all := map[string]relay.Handler{}
	for _, r := range s.table() {
		if r.method != nil {
			name, h := r.method.handler(s.peers)
			all[name] = h
		}
	}
	return all
}
