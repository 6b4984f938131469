"""What the simulated crowd says: sentences by mood, with `{cash}` ($SIMA), `{bare}` (SIMA) or `{name}` (Acorn) in them.

Sentences only. How often each is said, and when, is decided in simulated_posts.py. No sentence holds a number that
depends on the price: texts stay few, so that a score once cached serves for ever.
"""

BULLISH = (
    "{cash} to the moon 🚀🚀🚀",
    "Loaded up on {cash} calls this morning, this thing is going to rip",
    "{bare} is about to break out, don't say nobody told you 🚀",
    "Bought more {bare} on the dip, easiest buy of the year",
    "All in on {cash}. Diamond hands 💎🙌",
    "{bare} earnings will crush estimates, holding my calls through it",
    "{cash} is massively undervalued, strong buy for me",
    "Just YOLOed my savings into {cash} calls, tendies incoming",
    "{name} keeps winning customers, very bullish on {cash}",
    "{cash} breaking resistance with huge volume, new highs incoming",
    "Short interest on {bare} is insane, squeeze is coming 🚀",
    "Long {cash} and sleeping like a baby",
    "{bare} calls are printing today, thank you market 🤑",
    "If you are not buying {cash} here you hate money",
    "{bare} guidance was amazing, price target going way up",
    "Adding another hundred shares of {cash}, love this company",
    "Bears are so screwed on {cash} lol",
    "{bare} is the strongest stock in my portfolio, still buying",
    "{cash} golden cross on the daily, bullish as it gets 📈",
    "Holding {bare} until it doubles 💎",
    "Upgraded to buy: {cash} looks great going into next week",
    "{bare} is a rocket ship and it is still cheap 🚀",
    "Great product, great margins, great management. Bullish {cash}",
    "My {bare} calls just went up big and I am not selling",
    "{cash} buyers stepping in hard, this bounce is real",
    "Dip buyers win again, {bare} is ripping higher 📈",
    "{cash} is printing money, best position I ever opened",
    "Bought the breakout on {bare}, looking for a big run",
    "The {name} story is just beginning, long {cash} for years",
    "{cash} leaps are free money at this level",
    "Everyone sleeping on {bare}, this will moon soon 🌕",
    "Insiders are buying {cash}, so am I",
    "{bare} is going green all week, bulls in full control 🐂",
    "{cash} buyback announced, this is hugely bullish",
    "Took profits elsewhere to buy more {bare}, highest conviction play",
    "{cash} short sellers are about to get burned 🔥",
    "I like the stock. {bare} 🚀💎",
    "{cash} momentum is unreal, riding it higher",
    "Analysts are finally raising targets on {bare}, strong buy",
    "{cash} will be the best performer this quarter, mark my words",
    "Rolled my {bare} calls up and out, this rally has legs",
    "{name} just signed a huge deal, {cash} is going up",
    "Sold puts on {cash}, no way this drops from here",
    "{bare} bulls eating good tonight 🐂🤑",
)

BEARISH = (
    "{cash} is going to crash, get out while you can",
    "Loaded up on {cash} puts, this thing is going to tank 📉",
    "{bare} is dead money, sold everything today",
    "Puts on {bare}, guidance is going to be terrible",
    "{cash} breaking support, next stop is way lower 📉",
    "I lost so much on {cash}, never again",
    "{bare} is massively overvalued, this bubble will pop",
    "Dumping all my {cash} shares, the growth story is over",
    "{bare} earnings will be a disaster, short it",
    "{name} is bleeding customers, very bearish on {cash}",
    "{cash} bagholders in shambles 💀",
    "My {bare} calls are worthless, I am ruined 😭",
    "Short {cash}, thank me later",
    "{bare} is drilling again, no bottom in sight 🩸",
    "{cash} downgraded to sell, and they are right",
    "Management at {name} is clueless, selling {cash}",
    "{bare} puts are printing, bears in control 🐻",
    "Get out of {cash} before the rug pull",
    "{cash} looks awful here, lower lows every day",
    "{bare} is a falling knife, do not catch it",
    "{cash} debt is out of control, this ends badly",
    "Insiders are dumping {bare}, so should you",
    "{bare} bulls are delusional, this goes much lower",
    "{cash} death cross on the daily, bearish as it gets 📉",
    "Bought puts on {bare}, easy money on the way down",
    "{cash} missed again, what a terrible company",
    "Another red week for {bare}, I am done with this stock",
    "Sold my {cash} at a loss, it will only get worse",
    "{bare} is toast. Lawsuit, weak sales, falling margins",
    "{cash} rejected at resistance again, selling the rest",
    "The {name} hype is over, {bare} heading down",
    "{cash} is the worst position I ever held 😡",
    "Shorting every pop on {bare}, it keeps fading",
    "{cash} dilution incoming, shareholders get wrecked again",
    "{bare} cut its outlook, this will tank tomorrow",
    "Nobody wants to buy {cash}, sellers everywhere 🩸",
    "{bare} is a trap, the bounce was fake",
    "{cash} puts for next week, this dump is not over",
    "Guh. {bare} just erased my whole account",
    "{cash} is overbought and about to collapse",
    "Bears were right about {bare}, total garbage 🐻",
    "{name} will not survive the year, avoid {cash}",
    "Closing my {bare} position, too many red flags 🚩",
    "{cash} crashing after hours, hope nobody is holding calls",
)

NEUTRAL = (
    "{cash} price at the open?",
    "What time does {bare} report earnings?",
    "Anyone following {cash} this week?",
    "{bare} volume is about average today",
    "Does anybody know when the {cash} shareholder meeting is?",
    "{cash} closed flat",
    "Looking for the latest {bare} filing, does someone have a link?",
    "Is {cash} part of the index?",
    "{bare} daily discussion thread",
    "{name} presents at a conference on Tuesday, ticker {cash}",
    "What is the expiry on those {cash} options?",
    "{bare} unchanged so far",
    "Where can I find {cash} short interest data?",
    "{cash} trading sideways in a narrow range",
    "How many shares does {bare} have outstanding?",
    "Watching {cash}, no position yet",
    "{bare} is on my watchlist, waiting for the report",
    "{cash} opens in an hour",
    "Which broker lets me trade {bare} options?",
    "{name} published its quarterly filing today ({cash})",
    "{cash} spot price update",
    "Can someone explain the {bare} business model?",
    "What are you all doing with {cash} before the close?",
    "{bare} implied volatility is the same as last week",
    "{cash} ex-dividend date is coming up",
    "Comparing {bare} with its sector peers, here is the table",
    "Reminder: {cash} options expire on Friday",
    "{bare} analyst day is scheduled for next month",
    "Who is the auditor of {name} ({cash})?",
    "{cash} chart for today attached",
    "Question about {bare}: calls or shares for a beginner?",
    "{cash} average volume over thirty days, anyone?",
    "New to this, what does {bare} do?",
    "{cash} moved with the market today",
    "{bare} weekly open interest table",
    "Poll: do you own {cash}?",
    "{name} names a new head of communications ({cash})",
    "{bare} after-hours quote looks stale",
    "{cash} halted or is it just my app?",
    "Holding period for {bare}, long term or short term?",
    "{cash} price is the same as yesterday",
    "Transcript of the {name} call is out ({cash})",
    "{bare} is in the middle of its range",
    "Any news on {cash} or is it quiet?",
)

# A pair speaks of two tickers in one mood.
BULLISH_PAIRS = (
    "{cash} and {other} both ripping, what a day 🚀",
    "Calls on {cash} and {other}, cannot go wrong",
    "Buying the dip on {bare} and {other_bare}, bullish on both",
)
BEARISH_PAIRS = (
    "{cash} and {other} both crashing, what a bloodbath 🩸",
    "Puts on {cash} and {other}, this sector is toast",
    "Sold {bare} and {other_bare}, both look terrible",
)
NEUTRAL_PAIRS = (
    "{cash} or {other}, which one reports first?",
    "{cash} vs {other}: comparing the balance sheets",
    "Watching {bare} and {other_bare} today",
)

# Nobody in particular: these must not move any ticker's mood.
NO_TICKER = (
    "What are your moves tomorrow?",
    "Daily discussion thread",
    "This market makes no sense",
    "The Fed speaks at two, buckle up",
    "Lost everything again, back to work on Monday 😭",
    "Best day ever, whole portfolio green 🤑",
    "Is the market open on the holiday?",
    "Diamond hands never sell 💎🙌",
    "Everything is crashing, cash is king",
    "Stocks only go up 🚀",
    "Which broker has the lowest fees?",
    "I need a new hobby",
    "Rate cuts are coming, everything will rip",
    "Recession is here, puts on everything 📉",
    "Happy weekend everybody",
    "Anybody else just watching from the sidelines?",
    "My wife's boyfriend says buy the dip",
    "CPI numbers tomorrow morning",
    "",
    "Theta gang wins again",
)

_SYLLABLES = (
    "Acorn", "Birch", "Cobalt", "Dune", "Ember", "Fjord", "Garnet", "Harbor", "Indigo", "Juniper", "Kestrel", "Lumen",
    "Maple", "Nimbus", "Onyx", "Pebble", "Quartz", "Raven", "Saffron", "Tundra", "Umber", "Velvet", "Willow", "Xenon",
    "Yarrow", "Zephyr",
)  # fmt: skip


def company_name(ticker: str) -> str:
    """The nickname of a simulated ticker: SIMA is Acorn, SIMAB is Acorn Birch."""
    return " ".join(_SYLLABLES[ord(letter) - ord("A")] for letter in ticker.removeprefix("SIM"))


def filled(template: str, ticker: str, other: str) -> str:
    """template with the ticker in it; `other` is the second ticker of a pair."""
    return template.format(
        cash=f"${ticker}", bare=ticker, name=company_name(ticker), other=f"${other}", other_bare=other
    )
