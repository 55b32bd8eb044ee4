package docker

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/image"

	"github.com/effiscale/effiscale/knowledge"
)

// importTimeout: an import copies some 30 MB.
const importTimeout = 2 * time.Minute

// ImportImage creates an image from a tar of its root file system and tags it.
func (c *Client) ImportImage(ctx context.Context, tag string, tar io.Reader) error {
	if err := checkReference(opImport, tag); err != nil {
		return err
	}
	return c.do(ctx, opImport, tag, importTimeout, func(ctx context.Context, s *session) error {
		source := image.ImportSource{Source: tar, SourceName: "-"}
		body, err := s.api.ImageImport(ctx, source, tag, image.ImportOptions{})
		if err != nil {
			return err
		}
		defer body.Close()
		// The answer is a stream of progress, and an error one line of it with HTTP 200.
		for dec := json.NewDecoder(body); ; {
			var line struct {
				Error string `json:"error"`
			}
			switch err := dec.Decode(&line); {
			case errors.Is(err, io.EOF):
				return nil
			case err != nil:
				return err
			case line.Error != "":
				return &Error{Op: opImport.name, ID: tag, Kind: KindRefused, Message: clean(line.Error), Status: 200}
			}
		}
	})
}

// Image describes an image by tag, by id, or by digest ("name@sha256:…"). One that
// this host does not have is KindGone.
func (c *Client) Image(ctx context.Context, reference string) (knowledge.Image, error) {
	var out knowledge.Image
	if err := checkReference(opImage, reference); err != nil {
		return out, err
	}
	err := c.do(ctx, opImage, reference, c.o.InspectTimeout, func(ctx context.Context, s *session) error {
		r, err := s.api.ImageInspect(ctx, reference)
		if err != nil {
			return err
		}
		if id, ok := strings.CutPrefix(r.ID, "sha256:"); !ok || !knowledge.FullID(id) {
			return errNotImage
		}
		out = knowledge.Image{
			ID: r.ID, Tags: r.RepoTags, Digests: r.RepoDigests, OS: r.Os, Architecture: r.Architecture,
			Size: min(knowledge.Bytes(max(r.Size, 0)), knowledge.MaxBytes),
		}
		return nil
	})
	return out, err
}

// TagImage gives an image (a tag, an id or a digest) another tag.
func (c *Client) TagImage(ctx context.Context, reference, tag string) error {
	if err := errors.Join(checkReference(opTag, reference), checkReference(opTag, tag)); err != nil {
		return err
	}
	return c.do(ctx, opTag, reference, removeTimeout, func(ctx context.Context, s *session) error {
		return s.api.ImageTag(ctx, reference, tag)
	})
}

// RemoveImage removes an image by its tag; one that does not exist is no error.
func (c *Client) RemoveImage(ctx context.Context, tag string) error {
	if err := checkReference(opRemoveImage, tag); err != nil {
		return err
	}
	err := c.do(ctx, opRemoveImage, tag, removeTimeout, func(ctx context.Context, s *session) error {
		_, err := s.api.ImageRemove(ctx, tag, image.RemoveOptions{Force: true, PruneChildren: true})
		return err
	})
	return unlessGone(err)
}

// maxReference bounds a reference: a name of 255 bytes, a tag of 128, a digest.
const maxReference = 512

// checkReference refuses what cannot be an image's tag, id or digest: it becomes
// part of a URL.
func checkReference(op operation, s string) error {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:/@-"
	bad := func(part string) bool { return part == "" || part == "." || part == ".." }
	if len(s) <= maxReference && strings.Trim(s, allowed) == "" && !slices.ContainsFunc(strings.Split(s, "/"), bad) {
		return nil
	}
	return refuse(op, s, "this is not the tag, the id or the digest of an image")
}
