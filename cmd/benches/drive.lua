-- What wrk sends, and what it says at the end: one JSON object.
--   URL                              GET
--   URL -- PUT BODY                  the same body each time
--   URL -- FILL USERS FEEDS BYTES    each feed of each user once, with a text of so many bytes; then it stops
function init(args)
    if args[1] == "FILL" then
        fill(tonumber(args[2]), tonumber(args[3]), string.rep("x", tonumber(args[4])))
    elseif args[1] then
        wrk.method, wrk.body = args[1], args[2]
    end
end

function fill(users, feeds, text)
    local sent, answered = 0, 0
    request = function()
        local user, id = math.floor(sent / feeds) % users + 1, sent % feeds + 1
        sent = sent + 1
        return wrk.format("PUT", nil, nil, string.format('{"id": %d, "user_id": %d, "content": "%s"}', id, user, text))
    end
    response = function()
        answered = answered + 1
        if answered >= users * feeds then
            os.exit(0) -- wrk would sleep to the end of its time
        end
    end
end

function done(summary, latency, _)
    local errors = summary.errors
    io.write(string.format(
        '{"requests": %d, "seconds": %f, "errors": %d, "p50_us": %d, "p99_us": %d, "p999_us": %d}\n',
        summary.requests, summary.duration / 1e6,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout,
        latency:percentile(50), latency:percentile(99), latency:percentile(99.9)
    ))
end
