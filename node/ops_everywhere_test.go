package node

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/docker/dockertest"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/cluster/relay"
	"github.com/effiscale/effiscale/node/doctor"
)

// wants checks an error's kind and words.
func wants(t *testing.T, what string, err error, kind api.Kind, words ...string) {
	t.Helper()
	if err == nil || api.KindOf(err) != kind {
		t.Errorf("%s: %v", what, err)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s: %v does not say %q", what, err, w)
		}
	}
}

// paused are the names of the services that a host leaves alone.
func (s *testNode) paused() (names []string) {
	s.t.Helper()
	units, _, err := s.n.loop.Containers(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	for i := range units {
		if units[i].Paused.On {
			names = append(names, string(units[i].Container.Service))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// clusterOfThree has the service shop on a and b, one container called twin each on b and
// c, and one of its own each.
func clusterOfThree(t *testing.T) (f *testCluster, a, b, c *testNode) {
	t.Helper()
	f = newTestCluster(t, 3)
	a, b, c = f.all[0], f.all[1], f.all[2]
	a.giveEngine(dockertest.Spec{Name: "shop-a", Labels: of("shop")}, dockertest.Spec{Name: "front", Labels: of("front")})
	b.giveEngine(dockertest.Spec{Name: "shop-b", Labels: of("shop")}, dockertest.Spec{Name: "twin", Labels: of("left")},
		dockertest.Spec{Name: "solo", Labels: of("web")})
	c.giveEngine(dockertest.Spec{Name: "twin", Labels: of("right")}, dockertest.Spec{Name: "many-1", Labels: of("many")},
		dockertest.Spec{Name: "many-2", Labels: of("many")})
	f.startAll()
	for i, s := range f.all {
		soon(t, s.name+" measures its containers", func() bool {
			units, _, err := s.n.loop.Containers(t.Context())
			return err == nil && len(units) == []int{2, 3, 3}[i] &&
				!slices.ContainsFunc(units, func(u mape.ContainerStatus) bool { return !u.Measured })
		})
	}
	return f, a, b, c
}

// allSay: members and status have of each host what it says now.
func allSay(t *testing.T, s *testNode) {
	t.Helper()
	soon(t, "all say that they have a majority, and own what there is", func() bool {
		m, err := s.n.ops.Members(t.Context(), api.None{})
		if err != nil {
			t.Fatal(err)
		}
		owns := 0
		for _, v := range m.Members {
			if !v.OwnsNow || v.Majority == nil || !*v.Majority || v.Attestation != "off" || v.Timing != "fast" ||
				v.Error != "" || !v.Self && (v.ClockSkew == nil || *v.ClockSkew > 1 || *v.ClockSkew < -1) {
				return false
			}
			owns += v.Owns
		}
		return owns == 6 // front, shop, left, web, right, many
	})
	st, err := s.n.ops.Status(t.Context(), api.None{})
	if err != nil || st.Cluster.SummaryOf != 3 || len(st.Cluster.Hosts) != 3 ||
		st.Cluster.Summary.Actions < st.Summary.Actions {
		t.Fatalf("%+v, %v", st.Cluster, err)
	}
	for _, h := range st.Cluster.Hosts {
		if h.PoolCPU <= 0 {
			t.Errorf("%+v", h)
		}
	}
	for _, c := range clusterChecksOf(t, s) {
		if !c.OK {
			t.Errorf("the doctor says %+v", c)
		}
	}
}

func clusterChecksOf(t *testing.T, s *testNode) []api.Check {
	t.Helper()
	m, err := s.n.ops.Members(t.Context(), api.None{})
	k, keysErr := s.n.ops.Keys(t.Context(), api.None{})
	if err := errors.Join(err, keysErr); err != nil {
		t.Fatal(err)
	}
	return doctor.Cluster(m, k, true)
}

// TestPauseReachesEveryHost: a service is paused and resumed on every host that runs it,
// whichever node is asked; HOST/NAME means one; and who cannot be told is named.
func TestPauseReachesEveryHost(t *testing.T) {
	t.Parallel()
	_, a, b, c := clusterOfThree(t)
	ctx := t.Context()
	allSay(t, a)
	check := func(what string, r api.PauseRequest, service string, hosts []string, onA, onB, onC string) {
		t.Helper()
		res, err := a.n.ops.Pause(ctx, r)
		if err != nil || res.Service != service || !slices.Equal(res.Hosts, hosts) || len(res.NotReached) != 0 {
			t.Errorf("%s: %+v, %v", what, res, err)
		}
		for s, want := range map[*testNode]string{a: onA, b: onB, c: onC} {
			if got := strings.Join(s.paused(), " "); got != want {
				t.Errorf("%s: %s leaves %q alone, not %q", what, s.name, got, want)
			}
		}
	}
	check("a service of two hosts", api.PauseRequest{Service: "shop", For: time.Hour}, "shop", []string{a.name, b.name},
		"shop", "shop", "")
	check("resume by a container elsewhere", api.PauseRequest{Service: "shop-b", Resume: true}, "shop",
		[]string{a.name, b.name}, "", "", "")
	check("on one host alone", api.PauseRequest{Service: b.name + "/shop"}, "shop", []string{b.name}, "", "shop", "")
	// Status says so at each of them: it said of all hosts what the asked one was told.
	for _, s := range []*testNode{a, b, c} {
		st, err := s.n.ops.Status(ctx, api.None{})
		i := slices.IndexFunc(st.Services, func(v api.ServiceView) bool { return v.Name == "shop" })
		if err != nil || i < 0 || st.Services[i].Paused != "" ||
			!maps.Equal(st.Services[i].Pauses, map[string]string{b.name: "until resumed"}) {
			t.Errorf("status at %s: %+v, %v", s.name, st.Services, err)
		}
	}
	check("on this host alone", api.PauseRequest{Service: a.name + "/shop-a"}, "shop", []string{a.name}, "shop", "shop",
		"")
	check("a service of another host", api.PauseRequest{Service: "web"}, "web", []string{b.name}, "shop", "shop web", "")
	check("one of two that have the name", api.PauseRequest{Service: c.name + "/twin"}, "right", []string{c.name}, "shop",
		"shop web", "right")
	check("all of every host go on", api.PauseRequest{AllHosts: true, Resume: true}, "", []string{a.name, b.name, c.name},
		"", "", "")
	check("all of this host", api.PauseRequest{All: true}, "", []string{a.name}, "front shop", "", "")
	check("all of every host", api.PauseRequest{AllHosts: true, OnlyDown: true}, "", []string{a.name, b.name, c.name},
		"front shop", "left shop web", "many right")

	_, err := a.n.ops.Pause(ctx, api.PauseRequest{Service: "twin"})
	wants(t, "pause of what two hosts have", err, api.KindBadRequest, b.name+"/twin", c.name+"/twin")
	_, err = a.n.ops.Pause(ctx, api.PauseRequest{Service: "nobody"})
	wants(t, "pause of nothing", err, api.KindNotFound, "nobody")
	_, err = a.n.ops.Pause(ctx, api.PauseRequest{Service: b.name + "/front"})
	wants(t, "pause of what is on another host", err, api.KindNotFound, "on host "+b.name)
	_, err = a.n.ops.Pause(ctx, api.PauseRequest{Service: a.name + "/solo"})
	wants(t, "pause here of what is elsewhere", err, api.KindNotFound, "solo")

	b.crash()
	soon(t, "b is given up", func() bool { return statusOf(a, b.name) == "failed" })
	if down := clusterChecksOf(t, a)[0]; down.OK || !strings.Contains(down.Detail, b.name+" is down") {
		t.Errorf("the doctor says %+v", down)
	}
	res, err := a.n.ops.Pause(ctx, api.PauseRequest{AllHosts: true, Resume: true})
	if err != nil || !slices.Equal(res.Hosts, []string{a.name, c.name}) ||
		!slices.Equal(res.NotReached, []string{b.name + " (down)"}) {
		t.Errorf("without b: %+v, %v", res, err)
	}
	if res, err = a.n.ops.Pause(ctx, api.PauseRequest{Service: "shop"}); err != nil ||
		!slices.Equal(res.NotReached, []string{b.name + " (down)"}) {
		t.Errorf("what b may run, too: %+v, %v", res, err)
	}
	_, err = a.n.ops.Pause(ctx, api.PauseRequest{Service: b.name + "/shop"})
	wants(t, "on the host that is down", err, api.KindUnavailable, b.name)
	_, err = a.n.ops.Pause(ctx, api.PauseRequest{Service: "solo"})
	wants(t, "what only the host that is down has", err, api.KindUnavailable, b.name)
}

// TestNamesOnEveryHost: plan, restore, explain, scale and history find a name on whichever
// host has it, HOST/NAME means one, and an ambiguous name is answered with the forms to type.
func TestNamesOnEveryHost(t *testing.T) {
	t.Parallel()
	_, a, b, c := clusterOfThree(t)
	ctx := t.Context()

	plan := func(r api.PlanRequest) (hosts, containers string) {
		t.Helper()
		p, err := a.n.ops.Plan(ctx, r)
		if err != nil || len(p.NotReached) > 0 {
			t.Fatalf("%+v: %+v, %v", r, p, err)
		}
		var names []string
		for _, it := range p.Items {
			if (it.Host != "") != (len(p.Hosts) > 1 || p.Hosts[0] != a.name) {
				t.Errorf("%+v: %+v", r, it)
			}
			names = append(names, it.Container)
		}
		return strings.Join(p.Hosts, " "), strings.Join(slices.Compact(names), " ")
	}
	for _, c := range []struct {
		r                 api.PlanRequest
		hosts, containers string
	}{
		{api.PlanRequest{}, a.name, "front shop-a"},
		{api.PlanRequest{Name: a.name + "/shop"}, a.name, "shop-a"},
		{api.PlanRequest{Name: "shop"}, a.name + " " + b.name, "shop-a shop-b"},
		{api.PlanRequest{Name: b.name + "/shop"}, b.name, "shop-b"},
		{api.PlanRequest{Name: "solo"}, b.name, "solo"},
		{api.PlanRequest{Name: "twin"}, b.name + " " + c.name, "twin"},
		{api.PlanRequest{AllHosts: true}, a.name + " " + b.name + " " + c.name,
			"front many-1 many-2 shop-a shop-b solo twin"},
	} {
		if hosts, containers := plan(c.r); hosts != c.hosts || containers != c.containers {
			t.Errorf("%+v: on %q: %q", c.r, hosts, containers)
		}
	}
	_, err := a.n.ops.Plan(ctx, api.PlanRequest{Name: "nobody"})
	wants(t, "plan of nothing", err, api.KindNotFound, "nobody")

	for _, ref := range []string{b.name + "/twin", b.name + "/left", c.name + "/twin"} {
		host, _, _ := strings.Cut(ref, "/")
		if e, err := a.n.ops.Explain(ctx, api.ExplainRequest{Name: ref}); err != nil || e.Container.Name != "twin" ||
			e.Container.Host != host {
			t.Errorf("explain %s: %s on %s, %v", ref, e.Container.Name, e.Container.Host, err)
		}
	}
	if e, err := a.n.ops.Explain(ctx, api.ExplainRequest{Name: a.name + "/front"}); err != nil ||
		e.Container.Name != "front" {
		t.Errorf("explain of this host's: %+v, %v", e.Container, err)
	}
	_, err = a.n.ops.Explain(ctx, api.ExplainRequest{Name: "twin"})
	wants(t, "explain of what two hosts have", err, api.KindBadRequest, b.name+"/twin, "+c.name+"/twin")
	_, err = a.n.ops.Explain(ctx, api.ExplainRequest{Name: "many"})
	wants(t, "explain of a service of two containers", err, api.KindBadRequest, c.name+"/many-1", c.name+"/many-2")
	_, err = a.n.ops.Explain(ctx, api.ExplainRequest{Name: "nowhere/front"})
	wants(t, "explain on a host that there is not", err, api.KindNotFound, "nowhere")

	// What is restored is what was set, there and nowhere else.
	for _, s := range []*testNode{b, c} {
		soon(t, "the twin of "+s.name+" is measured", func() bool {
			res, err := a.n.ops.Scale(ctx, api.ScaleRequest{Container: s.name + "/twin", CPU: 1.5, DryRun: true})
			return err == nil && len(res.Notes) > 0
		})
		res, err := a.n.ops.Scale(ctx, api.ScaleRequest{Container: s.name + "/twin", CPU: 1.5, By: "cli root"})
		if err != nil || res.Host != s.name || len(res.Changes) != 1 {
			t.Fatalf("scale on %s: %+v, %v", s.name, res, err)
		}
	}
	_, err = a.n.ops.Restore(ctx, api.RestoreRequest{Container: "twin"})
	wants(t, "restore of what two hosts have", err, api.KindBadRequest, b.name+"/twin")
	for _, s := range []*testNode{a, b, c} { // wherever it is asked
		_, err = s.n.ops.Restore(ctx, api.RestoreRequest{Container: "shop"})
		wants(t, "restore of a service of two hosts", err, api.KindBadRequest, a.name+"/shop")
		_, err = s.n.ops.Scale(ctx, api.ScaleRequest{Container: "shop", CPU: 1.5})
		wants(t, "scale of a service of two hosts", err, api.KindBadRequest, b.name+"/shop")
	}
	res, err := a.n.ops.Restore(ctx, api.RestoreRequest{Container: c.name + "/twin"})
	if err != nil || res.Host != c.name || !res.Paused || !slices.Equal(c.paused(), []string{"right"}) ||
		len(b.paused()) != 0 {
		t.Errorf("restore: %+v, %v; c leaves alone %v, b %v", res, err, c.paused(), b.paused())
	}
	if res, err := a.n.ops.Restore(ctx, api.RestoreRequest{Container: ""}); err != nil || res.Host != a.name ||
		len(res.Failed) != 0 || !slices.Equal(a.paused(), []string{"front", "shop"}) && !res.Nothing {
		t.Errorf("restore of all of this host: %+v, %v", res, err)
	}

	// A history is that of one host, or of all.
	b.did("twin", "left", 3, time.Now().Add(-time.Hour))
	c.did("twin", "right", 4, time.Now().Add(-time.Hour))
	planted := func(ref string) (onB, onC int) {
		t.Helper()
		h, err := a.n.ops.Records(ctx, api.RecordsRequest{Name: ref, Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range h.Changes {
			switch v.Message {
			case b.name:
				onB++
			case c.name:
				onC++
			}
		}
		return onB, onC
	}
	for ref, want := range map[string][2]int{"twin": {3, 4}, b.name + "/twin": {3, 0}, c.name + "/right": {0, 4}} {
		if onB, onC := planted(ref); onB != want[0] || onC != want[1] {
			t.Errorf("history of %s: %d on b, %d on c", ref, onB, onC)
		}
	}
	_, err = a.n.ops.Records(ctx, api.RecordsRequest{Name: b.name + "/nobody", Limit: 10})
	wants(t, "history of nothing on a host", err, api.KindNotFound, b.name)

	// The demand of seconds is on record soon.
	trace := func(ref string) (tr api.Trace, err error) {
		return a.n.ops.Trace(ctx, api.TraceRequest{Name: ref, Resource: "cpu", Since: 20 * time.Second})
	}
	soon(t, "a trace of seconds", func() bool { _, err := trace("solo"); return err == nil })
	for ref, want := range map[string][2]string{"solo": {"web", b.name}, b.name + "/shop": {"shop", b.name},
		"shop": {"shop", a.name}} {
		var tr api.Trace
		soon(t, "a trace of "+ref, func() bool { tr, err = trace(ref); return err == nil })
		if tr.Service != want[0] || tr.Host != want[1] || (len(tr.Elsewhere) == 1) != (ref == "shop") {
			t.Errorf("trace of %s: of %s on %s, also on %v, %v", ref, tr.Service, tr.Host, tr.Elsewhere, err)
		}
	}
	soon(t, "a trace that is ambiguous", func() bool {
		_, err = trace("twin")
		return api.KindOf(
			err) == api.KindBadRequest
	})
	wants(t, "a trace of what two hosts have", err, api.KindBadRequest, b.name+"/twin", c.name+"/twin")
}

// TestPeersOrdersAreChecked: what another node sends is held against what the API lets
// through, and nobody restores or pauses a whole cluster through one node.
func TestPeersOrdersAreChecked(t *testing.T) {
	f := newTestCluster(t, 1)
	f.startAll()
	n := f.all[0].n
	for _, what := range []string{"pause", "restore", "trace"} {
		for _, body := range []string{``, `{`, `""`, `[]`, `{"service":"a","all":true}`, `{"all_hosts":true}`,
			`{"service":"\u001b"}`, `{"service":"a","for":-1}`,
			`"a b"`, `"../x"`, `{"name":"a","resource":"disk","seconds":60}`, `{"name":"","resource":"cpu","seconds":60}`,
			`{"name":"a","resource":"cpu","seconds":1e300}`} {
			said := new(relay.Error)
			if _, err := n.ops.Handlers()[what].Serve(t.Context(), n.key.ID(), []byte(body)); !errors.As(err, &said) ||
				said.Status != 400 {
				t.Errorf("%s %s: %v", what, body, err)
			}
		}
	}
	if got := f.all[0].paused(); len(got) != 0 {
		t.Errorf("paused: %v", got)
	}
}
