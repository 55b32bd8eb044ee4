package ops

import (
	"context"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/store"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/view"
)

// historyShown is how many changes an explanation lists.
const historyShown = 10

// explain shows one container.
type explain struct {
	finder
	source string // of the samples
}

func (e explain) method() method[string, api.Explain] {
	return method[string, api.Explain]{name: "explain", plain: true, maxBody: maxRef, here: e.here}
}

// Explain is the explanation of a container on whichever host it runs.
func (e explain) Explain(ctx context.Context, q api.ExplainRequest) (api.Explain, error) {
	out, host, err := anywhere(ctx, e.peers, e.method(), q.Name)
	if host != "" {
		out.Container.Host = host
	}
	return out, err
}

func (e explain) here(ctx context.Context, _ knowledge.NodeID, ref string) (out api.Explain, err error) {
	if ref, err = e.container(ctx, ref); err != nil {
		return out, err
	}
	u, verdicts, err := e.host.loop.Find(ctx, ref)
	if err != nil {
		return out, loopError(err)
	}
	records, err := e.host.records(ctx, store.Filter{Container: u.Container.ID, Limit: historyShown})
	if err != nil {
		e.host.log.Debug().Err(err).Msg("cannot read the history")
	}
	from := view.Explanation{Unit: &u, Verdicts: verdicts, Records: records, Source: e.source, Node: e.host.name,
		CPUs: e.host.machine().CPUs}
	out = view.Explain(&from, time.Now())
	e.owner(&out, &u)
	return out, nil
}

// owner adds the node that plans for the container's service.
func (e explain) owner(out *api.Explain, u *mape.ContainerStatus) {
	c := e.peers.cluster
	if c == nil {
		return
	}
	key, term := u.Container.Service, u.Envelope.Term
	out.Owner, out.Warm = e.peers.ownerOf(key)
	if !term.IsZero() {
		out.Term = term.String()
		if term.Owner != c.Self() && !u.DeclaredAt.IsZero() {
			out.IntentAge = time.Since(u.DeclaredAt).Seconds()
		}
	}
	if p, ok := c.Members().Peer(c.View().Ring.Owner(key)); ok {
		out.OwnerState = p.Status
	}
}
