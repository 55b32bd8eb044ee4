package node

import (
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/docker/dockertest"
	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/api"
)

// giveEngine gives a node of the cluster, which does not run yet, an Engine of its own.
func (s *testNode) giveEngine(containers ...dockertest.Spec) *dockertest.Engine {
	e := dockertest.New(s.t, dockertest.Options{})
	for _, c := range containers {
		c.Labels = map[string]string{"effiscale.enable": "true", "effiscale.service": c.Labels["service"]}
		c.Limits = knowledge.Limits{CPU: knowledge.OneCPU, Memory: knowledge.GiB}
		e.Run(c)
	}
	s.set("DOCKER_HOST", e.Host())
	return e
}

// did writes n changes of a container into a node's history, the k-th a second before
// the (k+1)-th.
func (s *testNode) did(container, service string, n int, from time.Time) {
	s.t.Helper()
	u, _, err := s.n.loop.Find(s.t.Context(), container)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := range n {
		at := from.Add(time.Duration(i) * time.Second)
		seq, err := s.n.store.Journal.Begin(knowledge.Action{
			Kind: knowledge.ActionResize, ID: u.Container.ID, Name: container, Service: knowledge.ServiceKey(service), At: at,
			Resize: knowledge.Resize{
				Resource: knowledge.ResourceMemory, Verb: knowledge.Grow, From: int64(i), To: int64(i + 1),
			},
		})
		if err == nil {
			err = s.n.store.Journal.End(knowledge.Outcome{Seq: seq, Result: knowledge.ResultApplied, At: at, Message: s.name})
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

func of(service string) map[string]string { return map[string]string{"service": service} }

// TestAnyNodeAnswers: whichever node is asked about a container or a service of another
// host, the answer is that host's, and says so; and what cannot be known is not denied.
func TestAnyNodeAnswers(t *testing.T) {
	t.Parallel()
	f := newTestCluster(t, 3)
	a, b, c := f.all[0], f.all[1], f.all[2]
	a.giveEngine(dockertest.Spec{Name: "front", Labels: of("front")}, dockertest.Spec{Name: "shop-a", Labels: of("shop")})
	engine := b.giveEngine(dockertest.Spec{Name: "solo", Labels: of("alone")},
		dockertest.Spec{Name: "shop-b", Labels: of("shop")}, dockertest.Spec{Name: "shop-b2", Labels: of("shop")},
		dockertest.Spec{Name: "twin", Labels: of("twin")})
	c.giveEngine(dockertest.Spec{Name: "twin", Labels: of("twin")}, dockertest.Spec{Name: "shop-c", Labels: of("shop")})
	f.startAll()
	ctx := t.Context()
	for _, s := range f.all {
		soon(t, s.name+" knows its containers", func() bool {
			units, _, err := s.n.loop.Containers(ctx)
			return err == nil && len(units) >= 2
		})
	}

	for _, ref := range []string{"solo", "alone"} {
		if e, err := a.n.ops.Explain(ctx, api.ExplainRequest{Name: ref}); err != nil || e.Container.Name != "solo" ||
			e.Container.Host != b.name || e.Node != b.name {
			t.Errorf("explain %s: of %s on %s at %s, %v", ref, e.Container.Name, e.Container.Host, e.Node, err)
		}
	}
	if e, err := a.n.ops.Explain(ctx, api.ExplainRequest{Name: "front"}); err != nil || e.Container.Host != "" ||
		e.Node != a.name {
		t.Errorf("explain of what is here: on %q at %s, %v", e.Container.Host, e.Node, err)
	}
	// refused says why, of which kind.
	refused := func(what string, err error, kind api.Kind, words ...string) {
		t.Helper()
		if api.KindOf(err) != kind || err == nil {
			t.Errorf("%s: %v", what, err)
			return
		}
		for _, w := range words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v does not say %q", what, err, w)
			}
		}
	}
	_, err := a.n.ops.Explain(ctx, api.ExplainRequest{Name: "twin"})
	refused("explain of what two hosts have", err, api.KindBadRequest, b.name, c.name)
	_, err = c.n.ops.Explain(ctx, api.ExplainRequest{Name: "shop"})
	if err != nil { // c has one container of it
		t.Errorf("explain of a service with one container here: %v", err)
	}
	_, err = b.n.ops.Explain(ctx, api.ExplainRequest{Name: "shop"})
	refused("explain of a service with two", err, api.KindBadRequest, "shop-b", "shop-b2")
	_, err = a.n.ops.Explain(ctx, api.ExplainRequest{Name: "nobody"})
	refused("explain of nothing", err, api.KindNotFound, "nobody")

	// Limits are set where the container is, in the name of who asked, and once.
	order := api.ScaleRequest{Container: "solo", CPU: 1.5, By: "cli root", Key: "once"}
	soon(t, "solo is measured", func() bool {
		r := order
		r.Key, r.DryRun = "", true
		res, err := a.n.ops.Scale(ctx, r)
		return err == nil && len(res.Notes) > 0 && res.Host == b.name
	})
	before := engine.Calls("update")
	for range 2 {
		res, err := a.n.ops.Scale(ctx, order)
		if err != nil || res.Host != b.name || len(res.Changes) != 1 || res.Changes[0].To != 1_500_000_000 ||
			!strings.Contains(res.Changes[0].Why, "cli root at "+a.name) {
			t.Errorf("scale: %+v, %v", res, err)
		}
	}
	if n := engine.Calls("update") - before; n != 1 {
		t.Errorf("the Engine was told %d times", n)
	}
	_, err = a.n.ops.Scale(ctx, api.ScaleRequest{Container: "twin", CPU: 1})
	refused("scale of what two hosts have", err, api.KindBadRequest, b.name, c.name)
	_, err = c.n.ops.Scale(ctx, api.ScaleRequest{Container: "shop-b", CPU: 1.5, Key: "once"})
	refused("scale that its host refuses", err, api.KindRefused, "on host "+b.name)

	// The history of a service is that of all hosts, the newest first.
	t0 := time.Now().Add(-time.Hour)
	b.did("shop-b", "shop", 3000, t0)
	c.did("shop-c", "shop", 5, t0.Add(500*time.Millisecond))
	a.did("shop-a", "shop", 2, t0.Add(700*time.Millisecond))
	for _, limit := range []int{4, 9999} {
		h, err := a.n.ops.Records(ctx, api.RecordsRequest{Name: "shop", Limit: limit})
		// The daemons may have made changes of their own by now.
		if err != nil || len(h.Changes) != limit && len(h.Changes) < 3007 || len(h.Changes) > limit || len(h.Notes) != 0 {
			t.Fatalf("history of %d: %d, %v, %v", limit, len(h.Changes), h.Notes, err)
		}
		planted, last := 0, time.Now()
		for _, v := range h.Changes {
			switch v.Message {
			case a.name, b.name, c.name:
				if v.At.After(last) {
					t.Error("the newest are not first")
				}
				planted, last = planted+1, v.At
				if v.Host != v.Message {
					t.Fatalf("%+v", v)
				}
			}
			if v.Host == "" {
				t.Fatalf("%+v", v)
			}
		}
		if limit > 3007 && planted != 3007 {
			t.Errorf("%d of 3007 changes", planted)
		}
	}
	if h, err := c.n.ops.Records(ctx, api.RecordsRequest{Name: "shop-b", Limit: 10}); err != nil || len(h.Changes) != 10 ||
		h.Changes[0].Host != b.name {
		t.Errorf("history of a container elsewhere: %+v, %v", h, err)
	}
	_, err = a.n.ops.Records(ctx, api.RecordsRequest{Name: "nobody", Limit: 10})
	refused("history of nothing", err, api.KindNotFound, "nobody")

	// Who decides is the owner and the warm nodes of the service, whoever is asked.
	soon(t, "all have one ring", func() bool {
		sum := a.n.cluster.View().Ring.Checksum()
		return !slices.ContainsFunc(f.all, func(s *testNode) bool {
			r := s.n.cluster.View().Ring
			return r.Len() != 3 ||
				r.Checksum() != sum
		})
	})
	placed, err := a.n.ops.Explain(ctx, api.ExplainRequest{Name: "solo"})
	if err != nil {
		t.Fatal(err)
	}
	owner, warm := placed.Owner, placed.Warm
	want := append([]string{owner}, warm...)
	for _, s := range f.all {
		if p, err := s.n.ops.Decide(ctx, "solo"); err != nil || len(want) != 3 || !slices.Equal(p.Controllers, want) ||
			p.Reason == "" {
			t.Errorf("decide at %s: %+v, %v, not by %v", s.name, p, err, want)
		}
		if leads, by, err := s.n.ops.Leader(ctx, "solo"); err != nil || by != owner || leads != (s.name == owner) {
			t.Errorf("leader at %s: %t, %s, %v", s.name, leads, by, err)
		}
	}
	_, err = a.n.ops.Decide(ctx, "twin")
	refused("a decision for what two hosts have", err, api.KindBadRequest, b.name, c.name)
	_, err = a.n.ops.Decide(ctx, "nobody")
	refused("a decision for nothing", err, api.KindNotFound, "nobody")
	_, _, err = a.n.ops.Leader(ctx, "nobody")
	refused("the leader of nothing", err, api.KindNotFound, "nobody")

	// A host that cannot be asked is named, and nothing is said not to be there.
	b.crash()
	soon(t, "b is given up", func() bool { return statusOf(a, b.name) == "failed" })
	_, err = a.n.ops.Explain(ctx, api.ExplainRequest{Name: "solo"})
	refused("explain of what is on a dead host", err, api.KindUnavailable, b.name)
	_, err = a.n.ops.Decide(ctx, "solo")
	refused("a decision for what is on a dead host", err, api.KindUnavailable, b.name)
	if res, err := a.n.ops.Scale(ctx, order); err != nil || res.Host != b.name {
		t.Errorf("the answer to a key, again: %+v, %v", res, err)
	}
	order.Key = "another"
	_, err = a.n.ops.Scale(ctx, order)
	refused("scale of what is on a dead host", err, api.KindUnavailable, b.name)
	if h, err := a.n.ops.Records(ctx, api.RecordsRequest{Name: "shop", Limit: 9999}); err != nil || len(h.Changes) < 7 ||
		len(h.Changes) >= 3007 || len(h.Notes) != 1 || !strings.Contains(h.Notes[0], b.name) {
		t.Errorf("history without a host: %d, %v, %v", len(h.Changes), h.Notes, err)
	}
}

func statusOf(s *testNode, name string) string {
	for _, p := range s.n.cluster.Members().Peers() {
		if p.Name == name {
			return p.Status
		}
	}
	return ""
}

// TestNeighborsOfIPv6: an address of IPv6 stands in brackets before its port.
func TestNeighborsOfIPv6(t *testing.T) {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("this machine has no IPv6:", err)
	}
	_ = l.Close()
	f := newTestCluster(t, 2)
	a, b := f.all[0], f.all[1]
	for _, s := range f.all {
		s.set("CLUSTER_BIND", "[::1]:0")
	}
	f.startAll()
	gossip, _ := b.n.cluster.Addr()
	known, err := a.n.ops.Neighbors(t.Context())
	if err != nil || len(known) != 1 || known[b.name] != gossip || !strings.HasPrefix(gossip, "[::1]:") {
		t.Errorf("%v, %v; %s is at %s", known, err, b.name, gossip)
	}
}
