package fetch_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/mailhaul/mailhaul/pop3proto/pop3test"
)

// folderData is the message that UW IMAP keeps at the beginning of an mbox.
const folderData = "Date: Thu, 05 Nov 2026 11:36:04 +0000\n" +
	"From: Mail System Internal Data <MAILER-DAEMON@mail.example.org>\n" +
	"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\n" +
	"Message-ID: <1793964964@mail.example.org>\n" +
	"X-IMAP: 1793964904 0000000012\n" +
	"Status: RO\n\n" +
	"This text is part of the internal format of your mail folder, and is not\n" +
	"a real message.\n"

// The message with the server's folder data is neither delivered nor deleted, and does not
// count against MaxMessages.
func TestFolderData(t *testing.T) {
	for _, most := range []int{0, 1, 2} {
		for _, without := range []string{"", "UIDL", "TOP", "PIPELINING"} {
			r := newRig(t, pop3test.Behaviour{Without: []string{without}})
			r.account.MaxMessages = most
			r.drop.Add("internal", []byte(folderData))
			mail := r.fill(4)
			s := r.mustPoll()
			if s.Fetched != 4 || s.Deleted != 4 || s.Unfetched != 0 || r.phase("internal") != 0 {
				t.Errorf("at most %d, without %q: %d fetched, %d deleted, %d left", most, without, s.Fetched, s.Deleted, s.Unfetched)
			}
			mail = append(mail, message(9))
			r.drop.Add("u9", []byte(message(9)))
			r.mustPoll()
			if s := r.mustPoll(); s.Fetched+s.Deleted+s.Refused != 0 {
				t.Errorf("at most %d, without %q: %d fetched, %d deleted, %d refused", most, without, s.Fetched, s.Deleted, s.Refused)
			}
			r.expectDelivered(mail...)
			if left := r.left(); !slices.Equal(left, []string{"internal"}) {
				t.Errorf("at most %d, without %q: left %q", most, without, left)
			}
		}
	}
}

// A server that deletes what was retrieved keeps its folder data, too.
func TestFolderDataExpireZero(t *testing.T) {
	r := newRig(t, pop3test.Behaviour{})
	r.announceExpireZero()
	r.drop.Add("internal", []byte(folderData))
	mail := r.fill(3)
	for range 2 {
		r.mustPoll()
		r.expectDelivered(mail...)
		if left := r.left(); !slices.Equal(left, []string{"internal"}) {
			t.Fatalf("left %q", left)
		}
	}
}

// A fault over the folder data is forgotten once the message was seen to be that.
func TestFolderDataAfterFault(t *testing.T) {
	for name, fault := range map[string]pop3test.Fault{
		"torn":    pop3test.CutIn("RETR", 30, pop3test.HangUp).UID("internal").Session(1),
		"refused": pop3test.ReplyErr("RETR", "locked").UID("internal").Session(1),
	} {
		r := newRig(t, pop3test.Behaviour{})
		r.drop.Add("internal", []byte(folderData))
		mail := r.fill(3)
		r.drop.Order(fault)
		r.poll()
		r.advance(day)
		r.mustPoll()
		r.expectDelivered(mail...)
		if phase := r.phase("internal"); phase != 0 {
			t.Errorf("%s: remembered as %v", name, phase)
		}
	}
}

// Mail that only looks like folder data is delivered: the first mail of an mbox that keeps
// its data there, a mail about it, and a forged one.
func TestLooksLikeFolderData(t *testing.T) {
	base := strings.Replace(folderData, "X-IMAP:", "X-IMAPbase:", 1)
	about := strings.Replace(folderData, "Subject: ", "Subject: Fwd: ", 1)
	forged := "Received: from mail.example.net by mail.example.org; Thu, 05 Nov 2026 11:36:04 +0000\n" + folderData
	for _, first := range []string{base, about, forged} {
		r := newRig(t, pop3test.Behaviour{})
		r.drop.Add("u1", []byte(first))
		r.drop.Add("u2", []byte(folderData))
		r.mustPoll()
		r.expectDelivered(first, folderData)
		r.expectMaildropEmpty()
	}
}
