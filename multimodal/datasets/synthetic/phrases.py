"""What the synthetic speakers say: 16 intents of a smart home, 8 train and 4 test phrasings each.

No phrasing stands in two intents or in both splits. Every word of a test phrasing stands in a train
phrasing of the same intent: the sentence is new, its words are not.
"""

from __future__ import annotations

# Class name -> (train phrasings, test phrasings); the position of a name is its class id.
PHRASES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "lights_on": (
        (
            "turn on the lights",
            "turn the lights on",
            "switch on the lights",
            "switch the kitchen lights on",
            "lights on please",
            "please turn on the bedroom lights",
            "can you switch the lights on",
            "please turn the lights on",
        ),
        (
            "switch the lights on",
            "please switch on the lights",
            "can you turn on the kitchen lights",
            "bedroom lights on",
        ),
    ),
    "lights_off": (
        (
            "turn off the lights",
            "turn the lights off",
            "switch off the lights",
            "switch the kitchen lights off",
            "lights off please",
            "please turn off the bedroom lights",
            "can you switch the lights off",
            "please turn the lights off",
        ),
        (
            "switch the lights off",
            "please switch off the lights",
            "can you turn off the kitchen lights",
            "bedroom lights off",
        ),
    ),
    "volume_up": (
        (
            "turn up the volume",
            "turn the volume up",
            "volume up please",
            "raise the volume",
            "make it louder",
            "can you make the sound louder",
            "please raise the volume",
            "louder please",
        ),
        (
            "please turn the volume up",
            "can you raise the volume",
            "make the sound louder",
            "can you turn up the volume",
        ),
    ),
    "volume_down": (
        (
            "turn down the volume",
            "turn the volume down",
            "volume down please",
            "lower the volume",
            "make it quieter",
            "can you make the sound quieter",
            "please lower the volume",
            "quieter please",
        ),
        (
            "please turn the volume down",
            "can you lower the volume",
            "make the sound quieter",
            "can you turn down the volume",
        ),
    ),
    "play_music": (
        (
            "play some music",
            "play music",
            "please play my favourite music",
            "start the music",
            "put on some music",
            "can you play some jazz music",
            "play music in the kitchen",
            "I want to hear some music",
        ),
        (
            "please start the music",
            "can you put on some music",
            "please play some music",
            "please play music in the kitchen",
        ),
    ),
    "next_song": (
        (
            "next song",
            "play the next song",
            "skip this song",
            "skip to the next track",
            "next track please",
            "go to the next song",
            "skip this song please",
            "can you skip this track",
        ),
        (
            "skip to the next song",
            "next song please",
            "go to the next track",
            "please skip this song",
        ),
    ),
    "set_alarm": (
        (
            "set an alarm",
            "set an alarm for seven",
            "wake me up at six",
            "wake me up at eight in the morning",
            "please set my alarm",
            "can you wake me up at seven",
            "set the alarm for half past six",
            "I need an alarm for tomorrow morning",
        ),
        (
            "set an alarm for six in the morning",
            "please wake me up at eight",
            "set my alarm for seven",
            "can you set an alarm for tomorrow",
        ),
    ),
    "get_weather": (
        (
            "what is the weather",
            "how is the weather today",
            "tell me the weather",
            "weather forecast please",
            "will it rain today",
            "what is the weather forecast for tomorrow",
            "will it rain tomorrow morning",
            "give me the weather for today",
        ),
        (
            "what is the weather today",
            "tell me the weather forecast",
            "will it rain tomorrow",
            "how is the weather tomorrow",
        ),
    ),
    "tell_time": (
        (
            "what time is it",
            "tell me the time",
            "what is the time",
            "time please",
            "can you tell me what time it is",
            "give me the time",
            "what time is it right now",
            "can you tell me the time",
        ),
        (
            "please tell me the time",
            "what time is it now",
            "can you give me the time",
            "what is the time now",
        ),
    ),
    "make_call": (
        (
            "call my mother",
            "make a phone call",
            "call my brother",
            "please call the doctor",
            "can you call home",
            "make a phone call to my sister",
            "call the office",
            "please call my father",
        ),
        (
            "please call my sister",
            "can you call my father",
            "make a phone call to the doctor",
            "call my mother please",
        ),
    ),
    "send_message": (
        (
            "send a message",
            "send a message to my mother",
            "text my brother",
            "write a message to the office",
            "please send this message",
            "can you send a text message",
            "message my sister",
            "I want to send a message",
        ),
        (
            "please send a message",
            "send a text message to my sister",
            "can you send a message to the office",
            "write a message to my brother",
        ),
    ),
    "add_to_list": (
        (
            "add milk to the shopping list",
            "put bread on the shopping list",
            "shopping list add eggs",
            "add butter to my list",
            "please add coffee to the list",
            "write apples on my shopping list",
            "can you add cheese to the shopping list",
            "I need milk on the list",
        ),
        (
            "add bread to my shopping list",
            "please put eggs on the shopping list",
            "can you add butter to the list",
            "add apples to the shopping list",
        ),
    ),
    "heating_up": (
        (
            "turn up the heating",
            "turn the heating up",
            "make it warmer",
            "warmer please",
            "can you make the room warmer",
            "please turn the heating up",
            "heating up please",
            "turn on the heating",
        ),
        (
            "make the room warmer",
            "can you turn up the heating",
            "please make it warmer",
            "can you turn the heating up",
        ),
    ),
    "unlock_door": (
        (
            "unlock the door",
            "unlock the front door",
            "open the door",
            "please open the front door",
            "can you unlock the back door",
            "open the door for me",
            "door unlock please",
            "let me in and open the door",
        ),
        (
            "please unlock the door",
            "can you open the front door",
            "open the back door",
            "unlock the door for me",
        ),
    ),
    "clean_floor": (
        (
            "clean the floor",
            "vacuum the floor",
            "start the vacuum cleaner",
            "please clean the kitchen floor",
            "can you vacuum the bedroom",
            "the floor is dirty",
            "start cleaning the floor",
            "vacuum cleaner start",
        ),
        (
            "please vacuum the floor",
            "can you clean the floor",
            "please start the vacuum cleaner",
            "clean the bedroom floor",
        ),
    ),
    "start_timer": (
        (
            "start a timer",
            "set a timer for five minutes",
            "timer for ten minutes",
            "start a ten minute timer",
            "please set a timer",
            "can you start a timer for two minutes",
            "give me a timer for three minutes",
            "count down five minutes",
        ),
        (
            "set a timer for ten minutes",
            "please start a timer for five minutes",
            "start a two minute timer",
            "can you set a timer for three minutes",
        ),
    ),
}
