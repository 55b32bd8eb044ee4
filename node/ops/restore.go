package ops

import (
	"context"
	"sync"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/view"
)

// restore puts containers back to the limits that they had.
type restore struct {
	finder
	pauses *pauses
}

// method restores one container for another host; never all.
func (o restore) method() method[string, api.RestoreResult] {
	return method[string, api.RestoreResult]{name: "restore", maxBody: maxRef, member: true, check: api.CheckRef,
		here: func(ctx context.Context, from knowledge.NodeID, ref string) (res api.RestoreResult, err error) {
			if ref, err = o.container(ctx, ref); err != nil {
				return res, err
			}
			o.host.log.Info().Str("container", ref).Str("at", o.peers.nameOf(from)).
				Msg("restoring a container on request of another node")
			return o.here(ctx, ref)
		}}
}

// Restore restores one container, on whichever host, or all of this host.
func (o restore) Restore(ctx context.Context, q api.RestoreRequest) (api.RestoreResult, error) {
	none := o.result()
	if q.Container == "" {
		return o.here(ctx, "")
	}
	at, err := o.peers.locate(q.Container)
	if err != nil {
		return none, err
	}
	name, err := o.onThisHost(ctx, &at)
	if err != nil {
		return none, err
	}
	if name != "" {
		return o.here(ctx, name)
	}
	there, err := o.elsewhere(ctx, &at)
	if err != nil {
		return none, err
	}
	res, err := o.method().order(ctx, o.peers, &there, at.name)
	res.Host = nameOr(there.peer)
	return res, err
}

func (o restore) result() api.RestoreResult {
	return api.RestoreResult{Schema: api.Schema, Restored: []api.Change{}, Failed: []string{}, Host: o.host.name}
}

// here restores containers of this host; "": all.
func (o restore) here(ctx context.Context, ref string) (api.RestoreResult, error) {
	res := o.result()
	o.pauses.mu.Lock()
	unlock := sync.OnceFunc(o.pauses.mu.Unlock)
	defer unlock()
	done, err := o.host.loop.Restore(ctx, ref, func(all map[knowledge.ServiceKey]knowledge.Pause) {
		o.pauses.save(all) // before the first change: after a crash it must not be taken back
		unlock()
	})
	if err != nil {
		return res, loopError(err)
	}
	for _, one := range done {
		for _, r := range one.Records {
			if r.Outcome.Result != knowledge.ResultOpen && r.Outcome.Result <= knowledge.ResultAdjusted {
				res.Restored = append(res.Restored, view.Change(r))
			}
		}
		if one.Err != "" {
			res.Failed = append(res.Failed, one.Name+": "+one.Err)
		}
	}
	res.Nothing = len(res.Restored) == 0 && len(res.Failed) == 0
	res.Paused = len(res.Restored) > 0
	if ref != "" {
		if u, err := o.host.find(ctx, ref); err == nil {
			res.Paused = u.Paused.On
		}
	}
	return res, nil
}
