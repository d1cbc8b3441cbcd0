-- Instants (…_ms) are milliseconds since the Unix epoch. Priorities are 0 critical, 1 urgent, 2 normal.

-- How far the state has come, and what the broker takes: one row.
CREATE TABLE state (
  applied INTEGER NOT NULL,         -- the index of the last entry
  now_ms INTEGER NOT NULL,          -- when that happened; nothing happens before it
  max_payload INTEGER NOT NULL DEFAULT 1048576,
  max_registration INTEGER NOT NULL DEFAULT 65536,
  max_mailboxes INTEGER NOT NULL DEFAULT 100000,
  max_messages INTEGER NOT NULL DEFAULT 100000,
  max_bytes INTEGER NOT NULL DEFAULT 1073741824,
  max_agents INTEGER NOT NULL DEFAULT 200000,
  max_groups INTEGER NOT NULL DEFAULT 1000,
  max_ids INTEGER NOT NULL DEFAULT 10000000,
  max_redelivered INTEGER NOT NULL DEFAULT 268435456,
  expired INTEGER NOT NULL DEFAULT 0,      -- messages removed from mailboxes that are gone, by reason
  replaced INTEGER NOT NULL DEFAULT 0,
  deleted INTEGER NOT NULL DEFAULT 0,
  evicted INTEGER NOT NULL DEFAULT 0,
  dropped INTEGER NOT NULL DEFAULT 0       -- messages that went with their mailbox
) STRICT;
INSERT INTO state (applied, now_ms) VALUES (0, 0);

CREATE TABLE mailboxes (
  id INTEGER PRIMARY KEY AUTOINCREMENT,    -- never used again: rows of an erased one may linger
  address TEXT NOT NULL UNIQUE,
  generation TEXT NOT NULL,         -- tells this mailbox from earlier ones of the same address
  description TEXT NOT NULL,
  public INTEGER NOT NULL,
  type TEXT NOT NULL DEFAULT 'standard',   -- latest: of the visible messages it keeps the newest
  creator TEXT,                     -- the authenticated agent that made it
  readers TEXT NOT NULL DEFAULT '',        -- agents it was granted to, one a line
  viewers TEXT NOT NULL DEFAULT '',        -- agents that may look, one a line
  senders TEXT NOT NULL DEFAULT '',        -- agents that may send if the policy says so, one a line
  send_policy TEXT NOT NULL DEFAULT 'everyone',  -- who may send: everyone, granted or creator
  look_policy TEXT NOT NULL DEFAULT 'granted',   -- who may look: granted or everyone
  ttl_s INTEGER NOT NULL,           -- 0: never expires
  expires_ms INTEGER,
  changes_ms INTEGER,               -- nothing falls due or expires before this
  next_msg_id INTEGER NOT NULL DEFAULT 0,
  next_reply INTEGER NOT NULL DEFAULT 0,
  visible_ms INTEGER NOT NULL DEFAULT 0,   -- of the newest message: create_time never decreases
  messages INTEGER NOT NULL DEFAULT 0,     -- visible and delayed
  delayed INTEGER NOT NULL DEFAULT 0,      -- of these
  bytes INTEGER NOT NULL DEFAULT 0,        -- their sizes together
  evict_from INTEGER NOT NULL DEFAULT 0,   -- no message below this one can make room
  ids INTEGER NOT NULL DEFAULT 0,          -- rows in sent_ids
  awaited INTEGER NOT NULL DEFAULT 0,      -- rows in awaited
  expired INTEGER NOT NULL DEFAULT 0,      -- messages removed so far, by reason
  replaced INTEGER NOT NULL DEFAULT 0,
  deleted INTEGER NOT NULL DEFAULT 0,
  evicted INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX mailboxes_expiry ON mailboxes (expires_ms) WHERE expires_ms IS NOT NULL;
CREATE INDEX mailboxes_changes ON mailboxes (changes_ms) WHERE changes_ms IS NOT NULL;
CREATE INDEX mailboxes_public ON mailboxes (address) WHERE public = 1;
CREATE INDEX mailboxes_creator ON mailboxes (creator, address) WHERE creator IS NOT NULL;

-- Removed mailboxes whose rows in the tables below were too many to remove at once.
CREATE TABLE erased (
  mailbox INTEGER PRIMARY KEY
) STRICT;

CREATE TABLE messages (
  mailbox INTEGER NOT NULL,
  msg_id INTEGER NOT NULL,
  priority INTEGER NOT NULL,
  visible_ms INTEGER NOT NULL,
  sent_ms INTEGER NOT NULL,
  expires_ms INTEGER,
  key TEXT,
  tags TEXT NOT NULL,               -- ",a,b," so that one tag is found by ",a,"
  sender TEXT,
  sender_verified INTEGER NOT NULL,
  reply_to TEXT,
  correlation_id TEXT,
  path TEXT NOT NULL,               -- "a,b"
  headers TEXT,                     -- JSON: value by name, in lower case
  from_mailbox TEXT,                -- one that the sender may take from; checked where it is verified
  moved TEXT,                       -- JSON: which mailbox it was moved here from, by whom, why
  answer_by_ms INTEGER,             -- until when its sender wants an answer
  overdue INTEGER NOT NULL DEFAULT 0,      -- whether it is the broker's notice of an overdue answer
  size INTEGER NOT NULL,            -- in bytes, of the payload and all text beside it
  payload BLOB NOT NULL,            -- last, so that the other columns are read without it
  PRIMARY KEY (mailbox, msg_id)
) STRICT;
CREATE INDEX messages_lane ON messages (mailbox, priority, msg_id, expires_ms);
CREATE UNIQUE INDEX messages_key ON messages (mailbox, key) WHERE key IS NOT NULL;
CREATE INDEX messages_correlation ON messages (correlation_id, mailbox, msg_id)
  WHERE correlation_id IS NOT NULL;
CREATE INDEX messages_sent ON messages (sender, sent_ms, correlation_id)
  WHERE sender IS NOT NULL AND correlation_id IS NOT NULL;
CREATE INDEX messages_expiry ON messages (mailbox, expires_ms) WHERE expires_ms IS NOT NULL;

-- How many messages are stored, by lane, of each 512 successive msg_ids that are all given: to be added
-- up instead of them.
CREATE TABLE message_counts (
  mailbox INTEGER NOT NULL,
  priority INTEGER NOT NULL,
  block INTEGER NOT NULL,           -- msg_id / 512
  messages INTEGER NOT NULL,
  PRIMARY KEY (mailbox, priority, block)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER messages_removed AFTER DELETE ON messages BEGIN
  UPDATE message_counts SET messages = messages - 1
    WHERE mailbox = old.mailbox AND priority = old.priority AND block = old.msg_id >> 9;
  DELETE FROM message_counts
    WHERE mailbox = old.mailbox AND priority = old.priority AND block = old.msg_id >> 9
    AND messages = 0;
END;

CREATE TABLE delayed (
  id INTEGER PRIMARY KEY AUTOINCREMENT,   -- the order of sending
  mailbox INTEGER NOT NULL,
  due_ms INTEGER NOT NULL,
  sent_ms INTEGER NOT NULL,
  priority INTEGER NOT NULL,
  expires_ms INTEGER,
  key TEXT,
  tags TEXT NOT NULL,
  sender TEXT,
  sender_verified INTEGER NOT NULL,
  reply_to TEXT,
  correlation_id TEXT,
  path TEXT NOT NULL,
  headers TEXT,
  from_mailbox TEXT,
  answer_by_ms INTEGER,
  size INTEGER NOT NULL,
  payload BLOB NOT NULL
) STRICT;
CREATE INDEX delayed_due ON delayed (mailbox, due_ms, id);
CREATE INDEX delayed_sent ON delayed (sender, sent_ms, correlation_id)
  WHERE sender IS NOT NULL AND correlation_id IS NOT NULL;

-- Idempotency ids, kept after their message is removed.
CREATE TABLE sent_ids (
  mailbox INTEGER NOT NULL,
  id BLOB NOT NULL,                 -- x'01', the sender, it; if long x'02', a digest of the sender and
                                    -- its beginning, its end
  digest BLOB NOT NULL,             -- of the body
  answer INTEGER NOT NULL,          -- the first answer: a msg_id, or -1; of a delayed message -1 less
                                    -- its id
  sent_ms INTEGER NOT NULL,
  PRIMARY KEY (mailbox, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX sent_ids_age ON sent_ids (sent_ms);

-- What became of messages that are no longer stored.
CREATE TABLE tombstones (
  mailbox INTEGER NOT NULL,
  msg_id INTEGER NOT NULL,
  reason TEXT NOT NULL,
  removed_ms INTEGER NOT NULL,
  sent_ms INTEGER NOT NULL,
  visible_ms INTEGER NOT NULL,
  priority INTEGER NOT NULL,
  replaced_by INTEGER,              -- the message that took its key
  PRIMARY KEY (mailbox, msg_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX tombstones_age ON tombstones (removed_ms);

-- Consumer groups. Everything below a lane's cursor and not before the start was delivered;
-- of that, what has a row in leases or is in a whole batch with a lease is not acked yet.
CREATE TABLE groups (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  mailbox INTEGER NOT NULL,
  name TEXT NOT NULL,
  start INTEGER NOT NULL,           -- the first msg_id that concerns the group
  critical INTEGER NOT NULL,        -- cursors: the next new msg_id of each lane is here or later
  urgent INTEGER NOT NULL,
  normal INTEGER NOT NULL,
  first_reply INTEGER NOT NULL,     -- replies before this one were voided by a reset
  used_ms INTEGER NOT NULL,
  reached INTEGER NOT NULL DEFAULT 0,      -- before a reset, what was new had this msg_id or more
  redelivered INTEGER NOT NULL DEFAULT 0,  -- the cost of its replies, together
  UNIQUE (mailbox, name)
) STRICT;
CREATE INDEX groups_use ON groups (used_ms);

CREATE TABLE leases (
  group_id INTEGER NOT NULL,
  msg_id INTEGER NOT NULL,
  mailbox INTEGER NOT NULL,
  priority INTEGER NOT NULL,
  holder TEXT,                      -- NULL: free for anyone; '': given back, for nobody until until_ms
  until_ms INTEGER,
  deliveries INTEGER NOT NULL,
  reply INTEGER NOT NULL,           -- the latest reply that it was in
  granted INTEGER NOT NULL DEFAULT 0,      -- the one that gave the holder the lease
  returned INTEGER NOT NULL DEFAULT 0,     -- replies before this one were given back by a NACK
  begun INTEGER NOT NULL DEFAULT 0,        -- whether the holder has begun to handle it
  deaths INTEGER NOT NULL DEFAULT 0,       -- how many leases ended while it was begun
  reason TEXT,                      -- why it was given back, if a NACK said so
  promised_ms INTEGER,              -- until when a holder has promised to be done; kept beyond its lease
  done TEXT,                        -- what it had done by then, in its own words
  promised_by TEXT,                 -- that holder
  PRIMARY KEY (group_id, msg_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX leases_order ON leases (group_id, holder, priority, msg_id);
CREATE INDEX leases_end ON leases (group_id, until_ms) WHERE until_ms IS NOT NULL;
CREATE INDEX leases_message ON leases (mailbox, msg_id);

-- FETCH replies that gave out something (or reset the group). One of nothing but messages that were
-- new to its group is a whole batch: it stands for their rows in leases and deliveries until one of
-- them is treated apart from the others.
CREATE TABLE replies (
  mailbox INTEGER NOT NULL,
  number INTEGER NOT NULL,
  group_id INTEGER NOT NULL,
  consumer TEXT NOT NULL,
  request_id TEXT,
  made_ms INTEGER NOT NULL,
  copies INTEGER NOT NULL DEFAULT 1,   -- how often it was given: a FETCH may be repeated
  cost INTEGER NOT NULL DEFAULT 0,     -- bytes that it takes for messages delivered before
  first_reply INTEGER NOT NULL DEFAULT 0,   -- of its group, as it was
  critical INTEGER NOT NULL DEFAULT 0,      -- the cursors of its group, as it left them
  urgent INTEGER NOT NULL DEFAULT 0,
  normal INTEGER NOT NULL DEFAULT 0,
  ids TEXT,                            -- JSON: the messages of a whole batch, in order; else NULL
  critical_from INTEGER,               -- the cursors before: what is stored between was all in it
  urgent_from INTEGER,
  normal_from INTEGER,
  lowest INTEGER,                      -- of the ids
  highest INTEGER,
  until_ms INTEGER,                    -- the end of its lease, as long as nothing of it was acked
  acked_by INTEGER,                    -- the msg_id that the ACK named which confirmed all of it
  begun INTEGER NOT NULL DEFAULT 0,    -- of a whole batch, as in leases
  PRIMARY KEY (mailbox, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX replies_request ON replies (group_id, request_id, consumer, number)
  WHERE request_id IS NOT NULL;
CREATE INDEX replies_group ON replies (group_id, number);
CREATE INDEX replies_age ON replies (made_ms);
CREATE INDEX replies_holder ON replies (group_id, consumer, until_ms) WHERE until_ms IS NOT NULL;
CREATE INDEX replies_end ON replies (group_id, until_ms) WHERE until_ms IS NOT NULL;
CREATE INDEX replies_lowest ON replies (mailbox, lowest) WHERE until_ms IS NOT NULL;

-- A message in a reply. The delivery by which its consumer got the lease is found by message; from it,
-- or from the lease while that runs, the last one is found by which it fetched the same again.
CREATE TABLE deliveries (
  mailbox INTEGER NOT NULL,
  reply INTEGER NOT NULL,
  msg_id INTEGER NOT NULL,
  position INTEGER NOT NULL,
  group_id INTEGER NOT NULL,
  previous INTEGER,                 -- the reply by which its consumer held it; NULL: it got the lease
  latest INTEGER,                   -- where it got the lease, which is over: the last reply of it
  count INTEGER NOT NULL,           -- how often the group had been given it by then
  acked INTEGER NOT NULL DEFAULT 0, -- where it got the lease: whether a later one was acked
  acked_by INTEGER,                 -- the msg_id that the confirming ACK named
  moved_to TEXT,                    -- where a MOVE put a copy of it
  moved_as INTEGER,                 -- the msg_id of that copy
  PRIMARY KEY (mailbox, reply, msg_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX deliveries_message ON deliveries (group_id, msg_id, reply) WHERE previous IS NULL;

-- Messages that a group has confirmed by a MOVE, as long as they are stored.
CREATE TABLE moves (
  group_id INTEGER NOT NULL,
  msg_id INTEGER NOT NULL,
  mailbox INTEGER NOT NULL,
  target TEXT NOT NULL,             -- the mailbox of the copy
  copy INTEGER NOT NULL,            -- the msg_id of the copy
  moved TEXT NOT NULL,              -- JSON: what the copy says of the move
  PRIMARY KEY (group_id, msg_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX moves_message ON moves (mailbox, msg_id);

-- Answers that are awaited in a mailbox, whose askers are to be told when none has come in time.
CREATE TABLE awaited (
  id INTEGER PRIMARY KEY AUTOINCREMENT,   -- the order of sending
  mailbox INTEGER NOT NULL,         -- where the answer is to come
  due_ms INTEGER NOT NULL,          -- when it is overdue: answer_by_ms, or a later promise
  answer_by_ms INTEGER NOT NULL,
  sent_ms INTEGER NOT NULL,
  correlation_id TEXT NOT NULL,
  sender TEXT,                      -- of the question, who does not answer it
  address TEXT NOT NULL,            -- the mailbox that was asked
  msg_id INTEGER NOT NULL,          -- the answer to the SEND; of a delayed question -1 less its id
  asked INTEGER NOT NULL,           -- the mailbox that the question is in by now
  question INTEGER NOT NULL         -- its msg_id there; while it is delayed -1 less its id
) STRICT;
CREATE INDEX awaited_due ON awaited (mailbox, due_ms, id);
CREATE INDEX awaited_answer ON awaited (mailbox, correlation_id);
CREATE INDEX awaited_question ON awaited (asked, question);

-- Sessions of hosts that were told of mail, and how far.
CREATE TABLE notice_sessions (
  mailbox INTEGER NOT NULL,
  host TEXT NOT NULL,
  session TEXT NOT NULL,
  next_id INTEGER NOT NULL,         -- the first msg_id that it was not told of
  in_a_row INTEGER NOT NULL,        -- turns that began by a notice, since a person's prompt
  used_ms INTEGER NOT NULL,
  PRIMARY KEY (mailbox, host, session)
) STRICT, WITHOUT ROWID;

-- What they were told, and what was held back from them.
CREATE TABLE notices (
  mailbox INTEGER NOT NULL,
  number INTEGER NOT NULL,          -- ascending
  host TEXT NOT NULL,
  session TEXT NOT NULL,
  occasion TEXT NOT NULL,
  from_id INTEGER NOT NULL,         -- of these messages, the first and the last
  to_id INTEGER NOT NULL,
  at_ms INTEGER NOT NULL,
  held TEXT,                        -- why it was held back; NULL: it was told
  most INTEGER,                     -- the limit that held it back
  PRIMARY KEY (mailbox, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE agents (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  key TEXT NOT NULL UNIQUE,         -- the name, else the mailbox
  mailbox TEXT NOT NULL,
  generation TEXT NOT NULL,         -- of the mailbox it points at
  registered BLOB NOT NULL,         -- the JSON object as it came
  owner TEXT,                       -- the authenticated agent that registered it
  ttl_s INTEGER NOT NULL,
  expires_ms INTEGER,
  seen_ms INTEGER NOT NULL,
  status TEXT                       -- JSON
) STRICT;
CREATE INDEX agents_mailbox ON agents (mailbox);
CREATE INDEX agents_expiry ON agents (expires_ms) WHERE expires_ms IS NOT NULL;

-- Registrations that were removed, the newest of them: for what is derived from the registry.
CREATE TABLE agents_removed (
  number INTEGER PRIMARY KEY,       -- ascending
  agent INTEGER NOT NULL            -- its agents.id, which is never used again
) STRICT;

-- Tells this file from copies, of whatever age: renewed after each checkpoint of the log.
CREATE TABLE checkpoints (
  token BLOB NOT NULL,
  previous BLOB NOT NULL            -- what the file holds until the next checkpoint
) STRICT;
INSERT INTO checkpoints VALUES (randomblob(16), randomblob(16));
