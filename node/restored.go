package node

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/history"
	"github.com/effiscale/effiscale/knowledge/profile"
	"github.com/effiscale/effiscale/knowledge/store"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/node/ops"
)

// recentHours is how much of the record a pattern is read from after a restart.
const recentHours = 9 * time.Hour

// restored reads what earlier runs left. Whatever cannot be read is learned again.
func (n *Node) restored() mape.Restored {
	r := mape.Restored{
		Profiles:  map[knowledge.ServiceKey]*profile.Profile{},
		Series:    map[knowledge.ServiceKey]*history.Series{},
		Originals: map[knowledge.ContainerID]knowledge.Original{},
		Pauses:    map[knowledge.ServiceKey]knowledge.Pause{},
	}
	packed, err := n.store.Learned.Profiles()
	n.unreadable("profiles", err)
	now := time.Now()
	for key, b := range packed {
		p, err := profile.Unmarshal(b)
		if err != nil {
			n.unreadable("profile of "+string(key), err)
			continue
		}
		r.Profiles[key] = p
		chunks, err := n.store.Learned.Running(key, now)
		n.unreadable("series of "+string(key), err)
		series := history.NewSeries()
		for _, c := range chunks {
			n.unreadable("series of "+string(key), series.Restore(c))
		}
		r.Series[key] = series
	}
	r.Images = n.images()
	r.Models, err = n.store.Learned.Models()
	n.unreadable("models", err)
	r.Recent = map[knowledge.ServiceKey][]history.Bucket{}
	for key := range r.Models {
		r.Recent[key], err = n.store.Learned.Series(key, history.Fine, now.Add(-recentHours), now)
		n.unreadable("series of "+string(key), err)
	}
	r.Marks, err = n.store.Learned.States()
	n.unreadable("states", err)
	for _, o := range n.store.Originals.All() {
		r.Originals[o.ID] = o
	}
	r.Lost = n.store.Originals.Lost()
	_, err = n.store.Documents.Get(ops.DocPauses, &r.Pauses)
	n.unreadable("pauses", err)
	// An action that was under way at the end may have been done all the same.
	r.Last, r.Unclean = n.lastChanges(), n.before.unclean || len(n.store.Journal.OpenActions()) > 0
	return r
}

// images reads the profiles of images: this node's part, and those of nodes that
// had this file before.
func (n *Node) images() map[knowledge.ImageKey]*profile.Shared {
	out := map[knowledge.ImageKey]*profile.Shared{}
	copies, err := n.store.Learned.Images()
	n.unreadable("images", err)
	seals, err := n.store.Learned.Seals()
	n.unreadable("seals", err)
	for at, b := range copies {
		p, err := profile.Unmarshal(b)
		if err != nil {
			n.unreadable("profile of image "+string(at.Image), err)
			continue
		}
		if out[at.Image] == nil {
			out[at.Image] = &profile.Shared{}
			out[at.Image].Keep(n.identity.Node)
		}
		out[at.Image].PutCopy(profile.Copy{Host: at.Host, Profile: p, Seal: seals[at]})
	}
	return out
}

func (n *Node) unreadable(what string, err error) {
	if err != nil {
		n.log.Warn().Err(err).Str("what", what).Msg("cannot read from the knowledge file; learning it again")
	}
}

// lastChanges is the newest record of each container, for status.
func (n *Node) lastChanges() map[knowledge.ContainerID]knowledge.Record {
	out := map[knowledge.ContainerID]knowledge.Record{}
	records, err := n.store.Journal.Records(store.Filter{Limit: 2000})
	n.unreadable("history", err)
	for _, r := range records {
		if _, seen := out[r.Action.ID]; !seen {
			out[r.Action.ID] = r
		}
	}
	return out
}

// closeWithin is how long a container may take to be measured before an action of an earlier
// run is closed without it: the Engine may have to be asked for its control group.
const closeWithin = 30 * time.Second

// limitInForce is a container's limit as it was read last, or with start what it starts
// with; waits: it is not measured yet.
type limitInForce func(id knowledge.ContainerID, r knowledge.Resource, start bool) (limit int64, ok, waits bool)

// closeOpen closes actions that a crash left open: the limit in force tells whether the
// Engine had done it. It returns those of containers that are not measured yet.
func (n *Node) closeOpen(open []knowledge.Record, inForce limitInForce) (later []knowledge.Record) {
	for _, r := range open {
		o := knowledge.Outcome{Seq: r.Action.Seq, At: time.Now().UTC(), Result: knowledge.ResultSuperseded,
			Message: "the daemon ended before the answer; the container is gone"}
		want := r.Action.Resize
		v, ok, waits := inForce(r.Action.ID, want.Resource, want.Start)
		switch {
		case r.Action.Kind != knowledge.ActionResize: // the next listing shows what came of it
			o.Message = "the daemon ended before the answer"
		case waits && time.Since(n.started) < closeWithin:
			later = append(later, r)
			continue
		case waits:
			o.Message = "the daemon ended before the answer; the container cannot be measured"
		case ok:
			o.Kernel = v
			o.Message = "the daemon ended before the answer; not in force in the kernel"
			if want.Start {
				o.Kernel, o.Engine = 0, v
				o.Message = "the daemon ended before the answer; the Engine has another limit on record"
			}
			if diff := v - want.To; max(diff, -diff) <= want.To/100 {
				o.Result = knowledge.ResultApplied
				o.Message = "the daemon ended before the answer; found in force at the next start"
			}
		}
		if err := n.store.Journal.End(o); err != nil {
			n.log.Debug().Err(err).Msg("cannot close an open action")
		}
		n.log.Info().Uint64("seq", o.Seq).Str("container", r.Action.Name).Stringer("result", o.Result).
			Msg("closed an action of an earlier run")
	}
	return later
}
