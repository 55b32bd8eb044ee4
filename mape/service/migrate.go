package service

import "github.com/effiscale/effiscale/knowledge"

// Migrate gives services of projects what an earlier version learned of them under project
// and service joined into one name, where just one of the listed containers' services and
// no container of another kind has that name.
func (r *Registry) Migrate(list []knowledge.Container) {
	claims := map[knowledge.ServiceKey]knowledge.ServiceKey{} // the joined name, and whose it is; "": more than one's
	for i := range list {
		key := list[i].Service
		name, joined := key, ""
		if _, joined = key.Aliases(); joined != "" {
			name = knowledge.ServiceKey(joined)
		}
		if r.services[name] == nil {
			continue
		}
		if other, ok := claims[name]; ok && other != key {
			key = ""
		}
		claims[name] = key
	}
	for name, key := range claims {
		if key == "" || key == name {
			continue
		}
		old, s := r.services[name], r.services[key]
		switch {
		case old.Replicas.Total > 0:
		case s == nil:
			delete(r.services, name)
			old.Key, old.dirty = key, true
			if old.Models != nil {
				old.Models.dirty = true
			}
			r.services[key] = old
		case old.Pause.On && !s.Pause.On: // it is on the disk under that name until the next pause
			s.Pause, old.Pause = old.Pause, knowledge.Pause{}
		}
	}
}
