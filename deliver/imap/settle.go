package imap

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/mailhaul/mailhaul/deliver"
)

// maxCandidates bounds the messages with one Message-ID that Settle compares.
const maxCandidates = 100

// listing is what Settle knows of the messages in a folder. It is used for the next promise
// if validity, next and exists of the folder have not changed.
type listing struct {
	folder   string
	validity uint32
	next     imap.UID
	exists   uint32
	// from is the first UID that was listed. sizes has the sizes of the messages from
	// there on, in octets, and sums the digests of their heads that were fetched so far.
	from  imap.UID
	sizes map[imap.UID]int64
	sums  map[imap.UID]string
}

// Settle implements deliver.Sink. It compares the messages from the promised UIDNEXT on. A
// message is the promised one if it has the same size and the same first 16 KiB. If the
// batch had several such messages, the first ones of them have landed, as many as are
// found. Settle returns NotLanded only if all messages that came since are still there and
// the promised one is not among them; else it returns Unknown.
//
// If UIDVALIDITY has changed since the promise, or the server does not tell UIDNEXT, Settle
// searches the whole folder for the Message-ID.
func (s *Sink) Settle(ctx context.Context, promise string) (deliver.Verdict, error) {
	if err := ctx.Err(); err != nil {
		return deliver.Unknown, s.fail("settle", err)
	}
	t, ok := parseToken(promise)
	if !ok {
		return deliver.Unknown, nil
	}
	if t.Server != s.accountDigest() {
		return deliver.Unknown, s.spool.Remove(t.Spool)
	}
	ses, leave, err := s.acquireSession(ctx, false)
	if err != nil {
		return deliver.Unknown, err
	}
	defer leave()
	v, err := ses.settle(t)
	if err != nil {
		return deliver.Unknown, ses.fail("settle", err)
	}
	return v, s.spool.Remove(t.Spool)
}

// settle finds out what became of the message of a token.
func (ses *session) settle(t token) (deliver.Verdict, error) {
	data, err := ses.client.Select(t.Folder, &imap.SelectOptions{ReadOnly: true}).Wait()
	if refusal, ok := errors.AsType[*imap.Error](err); ok {
		absent, lerr := ses.isMissing(t.Folder, refusal)
		_ = ses.wire.Close() // imapclient still believes that the previous folder is open
		if absent {
			return deliver.Unknown, nil
		}
		if lerr != nil {
			return deliver.Unknown, lerr
		}
	}
	if err != nil {
		return deliver.Unknown, err
	}
	if t.Next == 0 || data.UIDValidity != t.Validity {
		return ses.search(t)
	}
	if data.UIDNext == t.Next {
		return deliver.NotLanded, nil
	}
	l, err := ses.listNew(t, data)
	if err != nil {
		return deliver.Unknown, err
	}
	found, err := ses.countMatches(l, t)
	switch {
	case err != nil:
		return deliver.Unknown, err
	case found > t.Twin:
		return deliver.Landed, nil
	case l.isComplete(t.Next):
		return deliver.NotLanded, nil
	default:
		return deliver.Unknown, nil
	}
}

// listNew returns a listing of the selected folder from t.Next on: the previous one, if the
// folder has not changed since.
func (ses *session) listNew(t token, data *imap.SelectData) (*listing, error) {
	l := ses.listing
	if l != nil && l.folder == t.Folder && l.validity == data.UIDValidity && l.next == data.UIDNext &&
		l.exists == data.NumMessages && l.from <= t.Next {
		return l, nil
	}
	l = &listing{folder: t.Folder, validity: data.UIDValidity, next: data.UIDNext, exists: data.NumMessages, from: t.Next}
	var since imap.UIDSet
	since.AddRange(t.Next, 0)
	if err := ses.listSizes(l, since); err != nil {
		return nil, err
	}
	ses.listing = l
	return l, nil
}

// isMissing reports whether the server has refused a folder because it does not exist.
// Servers also refuse a folder for temporary reasons, and do not always say why.
func (ses *session) isMissing(folder string, refusal *imap.Error) (bool, error) {
	switch refusal.Code {
	case imap.ResponseCodeNonExistent, imap.ResponseCodeTryCreate:
		return true, nil
	case "":
	default:
		return false, nil
	}
	found, err := ses.client.List("", folder, nil).Collect()
	if err != nil {
		return false, err
	}
	// The name may contain characters that are wildcards to LIST (RFC 9051 §6.3.9).
	return !slices.ContainsFunc(found, func(d *imap.ListData) bool {
		gone := slices.Contains(d.Attrs, imap.MailboxAttrNonExistent) || slices.Contains(d.Attrs, imap.MailboxAttrNoSelect)
		return !gone && (d.Mailbox == folder || folder == "INBOX" && strings.EqualFold(d.Mailbox, folder))
	}), nil
}

// search settles a message by a search for its Message-ID in the whole folder.
func (ses *session) search(t token) (deliver.Verdict, error) {
	if t.ID == "" {
		return deliver.Unknown, nil
	}
	data, err := ses.client.UIDSearch(&imap.SearchCriteria{
		Header: []imap.SearchCriteriaHeaderField{{Key: "Message-ID", Value: t.ID}},
	}, nil).Wait()
	if refusal, ok := errors.AsType[*imap.Error](err); ok &&
		(refusal.Type == imap.StatusResponseTypeBad || refusal.Code == imap.ResponseCodeBadCharset) {
		return deliver.Unknown, nil // this server does not support such a search
	}
	if err != nil {
		return deliver.Unknown, err
	}
	uids := candidates(data.All)
	if len(uids) == 0 {
		return deliver.Unknown, nil
	}
	var l listing
	t.Next = 0
	if err := ses.listSizes(&l, imap.UIDSetNum(uids...)); err != nil {
		return deliver.Unknown, err
	}
	if found, err := ses.countMatches(&l, t); err != nil || found <= t.Twin {
		return deliver.Unknown, err
	}
	return deliver.Landed, nil
}

// candidates returns the last maxCandidates of the UIDs that a search has found, as the
// latest messages are the most likely. It does not use imap.SearchData.AllUIDs, which
// panics at a UID of 0, does not end at 4294967295, and expands ranges of any size.
func candidates(found imap.NumSet) (uids []imap.UID) {
	set, _ := found.(imap.UIDSet)
	for _, r := range slices.Backward(set) {
		for uid := r.Stop; uid >= max(r.Start, 1) && len(uids) < maxCandidates; uid-- {
			uids = append(uids, uid)
		}
	}
	return uids
}

// listSizes fetches the sizes of messages into l.
func (ses *session) listSizes(l *listing, uids imap.UIDSet) error {
	l.sizes, l.sums = make(map[imap.UID]int64), make(map[imap.UID]string)
	return ses.fetch(uids, &imap.FetchOptions{RFC822Size: true}, func(m *imapclient.FetchMessageBuffer) {
		if m.UID >= l.from { // n:* is never empty (RFC 9051 §9)
			l.sizes[m.UID] = m.RFC822Size
		}
	})
}

// countMatches counts the messages from t.Next on with the size and the head of t. It
// fetches the heads that l does not have yet.
func (ses *session) countMatches(l *listing, t token) (found int, err error) {
	var ask imap.UIDSet
	for uid, size := range l.sizes {
		if _, known := l.sums[uid]; size == t.Size && uid >= t.Next && !known {
			ask.AddNum(uid)
		}
	}
	if len(ask) > 0 {
		head := &imap.FetchItemBodySection{Peek: true, Partial: &imap.SectionPartial{Size: headLen}}
		err := ses.fetch(ask, &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{head}}, func(m *imapclient.FetchMessageBuffer) {
			if len(m.BodySection) > 0 {
				l.sums[m.UID] = digest(m.BodySection[0].Bytes)
			}
		})
		if err != nil {
			return 0, err
		}
	}
	for uid, size := range l.sizes {
		if size == t.Size && uid >= t.Next && l.sums[uid] == t.Sum {
			found++
		}
	}
	return found, nil
}

// isComplete reports whether the folder has a message for each UID from next up to its
// UIDNEXT.
func (l *listing) isComplete(next imap.UID) bool {
	n := 0
	for uid := range l.sizes {
		if uid >= next && uid < l.next {
			n++
		}
	}
	return l.next >= next && n == int(l.next-next)
}

// fetch fetches data of messages and calls see for each of them.
func (ses *session) fetch(uids imap.UIDSet, want *imap.FetchOptions, see func(*imapclient.FetchMessageBuffer)) error {
	want.UID = true
	cmd := ses.client.Fetch(uids, want)
	for {
		m := cmd.Next()
		if m == nil {
			return cmd.Close()
		}
		data, err := m.Collect()
		if err != nil {
			_ = ses.wire.Close() // else Close would wait for what cannot be read
			_ = cmd.Close()
			return err
		}
		see(data)
	}
}

// Made implements deliver.Sink.
func (s *Sink) Made(promise string) bool {
	t, ok := parseToken(promise)
	return ok && t.Server == s.accountDigest() && t.Folder == s.folder
}
