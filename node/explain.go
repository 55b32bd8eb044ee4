package node

import (
	"context"
	"errors"
	"time"

	"github.com/effiscale/effiscale/knowledge/store"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/view"
)

// historyShown is how many changes explain lists.
const historyShown = 10

// asError gives an error of the loop its kind for the wire.
func asError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, mape.ErrUnknown):
		return api.Errorf(api.KindNotFound, "%v", err)
	case errors.Is(err, mape.ErrAmbiguous):
		return api.Errorf(api.KindBadRequest, "%v", err)
	}
	return loopError(err)
}

// localExplain is everything about one container of this host.
func (n *Node) localExplain(ctx context.Context, ref string) (api.Explain, error) {
	ref, err := n.container(ctx, ref)
	if err != nil {
		return api.Explain{}, err
	}
	u, verdicts, err := n.loop.Find(ctx, ref)
	if err != nil {
		return api.Explain{}, asError(err)
	}
	records, err := n.records(ctx, store.Filter{Container: u.Container.ID, Limit: historyShown})
	if err != nil {
		n.log.Debug().Err(err).Msg("history cannot be read")
	}
	from := view.Explanation{Unit: &u, Verdicts: verdicts, Records: records, Source: n.source, Node: n.identity.Name}
	e := view.Explain(&from, time.Now())
	n.explainOwner(&e, u.Container.Service, &u.Envelope, u.DeclaredAt)
	return e, nil
}

// localPlan is what the daemon would do now on this host, with all containers or with
// what is named: a container, or a service.
func (n *Node) localPlan(ctx context.Context, name string) (api.Plan, error) {
	units, _, err := n.loop.Containers(ctx)
	if err != nil {
		return api.Plan{}, loopError(err)
	}
	p, known := view.Plan(units, name, time.Now())
	if !known {
		return p, api.Errorf(api.KindNotFound, "no container or service %q on this host: `effiscale status` lists them", name)
	}
	return p, nil
}
