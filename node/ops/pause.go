package ops

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/cluster/relay"
)

// DocPauses names the document of the store that holds the pauses in force.
const DocPauses = "pauses"

// pauses are those in force on this host.
type pauses struct {
	*host
	mu sync.Mutex // held from changing the pauses to writing them
}

func (p *pauses) save(all map[knowledge.ServiceKey]knowledge.Pause) {
	if err := p.store.Documents.Put(DocPauses, all); err != nil {
		p.log.Warn().Err(err).Msg("cannot persist pauses; keeping them in memory")
	}
}

// pause pauses or resumes automation.
type pause struct {
	pauses *pauses
	peers  *peers
}

func (o pause) method() method[api.PauseRequest, resumed] {
	check := func(q api.PauseRequest) error {
		if q.AllHosts {
			return errors.New("all_hosts: not allowed in a call between nodes")
		}
		return api.OpPause.Check(q)
	}
	return method[api.PauseRequest, resumed]{name: "pause", maxBody: 1 << 10, member: true, check: check,
		here: func(ctx context.Context, from knowledge.NodeID, q api.PauseRequest) (resumed, error) {
			return o.here(ctx, q, o.peers.nameOf(from))
		}}
}

// resumed is what a resume ended on one host. A host of an earlier version does not tell.
type resumed struct {
	NotPaused bool     `json:"not_paused,omitempty"`
	Holds     []string `json:"holds_ended,omitempty"`
}

// here pauses or resumes a service of this host, or all of them; at is the node that a user
// asked, "" for this one.
func (o pause) here(ctx context.Context, q api.PauseRequest, at string) (done resumed, err error) {
	p := knowledge.Pause{On: !q.Resume, OnlyDown: q.OnlyDown}
	if q.For > 0 && !q.Resume {
		p.Until = time.Now().Add(q.For)
	}
	o.pauses.mu.Lock()
	defer o.pauses.mu.Unlock()
	all, ended, err := o.pauses.loop.Pause(ctx, knowledge.ServiceKey(q.Service), p)
	if err != nil {
		return done, loopError(err)
	}
	o.pauses.save(all)
	if q.Resume {
		done = resumed{ended.NotPaused, ended.Holds}
	}
	line := o.pauses.log.Info().Str("service", cmp.Or(q.Service, "all"))
	if at != "" {
		line = line.Str("at", at)
	}
	if !p.On {
		line.Bool("was_paused", !ended.NotPaused).Strs("holds_ended", ended.Holds).Msg("automation resumed")
		return done, nil
	}
	if p.OnlyDown {
		line = line.Bool("only_down", true)
	}
	if !p.Until.IsZero() {
		line = line.Str("until", p.Until.UTC().Format(time.RFC3339))
	}
	line.Msg("automation paused")
	return done, nil
}

// Pause pauses or resumes a service on every host that runs it, or all services of this host
// or of all hosts. The answer names hosts that could not be reached.
func (o pause) Pause(ctx context.Context, q api.PauseRequest) (api.PauseResult, error) {
	out := api.PauseResult{Status: "done", Hosts: []string{}, NotReached: []string{}}
	paused := false
	add := func(done resumed) {
		paused = paused || !done.NotPaused
		out.HoldsEnded = append(out.HoldsEnded, done.Holds...)
		out.NotPaused = !paused
	}
	at := place{here: true}
	if q.AllHosts {
		at.there = o.peers.live(peersAsked)
	} else if !q.All {
		var err error
		if at, err = o.peers.locate(q.Service); err != nil {
			return out, err
		}
		key, err := resolver{o.pauses.host, o.peers}.resolve(ctx, &at)
		if err != nil {
			return out, err
		}
		q.Service, out.Service = string(key), string(key)
	}
	wide := q.AllHosts || !q.All && at.host == ""
	q.All, q.AllHosts = q.All || q.AllHosts, false
	if at.here {
		switch done, err := o.here(ctx, q, ""); {
		case err == nil:
			add(done)
			out.Hosts = append(out.Hosts, o.peers.self)
		case q.All || at.last(err):
			return out, err
		}
	}
	o.method().ask(ctx, o.peers, at.there, q)
	for _, a := range at.there {
		answered := new(relay.Error)
		switch {
		case a.err == nil:
			if done, err := o.method().of(&a); err == nil {
				add(done)
			}
			out.Hosts = append(out.Hosts, nameOr(a.peer))
		case at.host != "":
			return out, ofPeer(at.host, a.err)
		case errors.As(a.err, &answered) && answered.Status != http.StatusNotFound:
			out.NotReached = append(out.NotReached, nameOr(a.peer)+" ("+answered.Text+")")
		}
	}
	if wide {
		out.NotReached = append(out.NotReached, o.peers.silent(&at)...)
	}
	slices.Sort(out.Hosts)
	slices.Sort(out.HoldsEnded)
	slices.Sort(out.NotReached)
	return out, nil
}
