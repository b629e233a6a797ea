"""Speech in five languages, in espeak-ng's voices: the same twelve sentences, translated by us.

Out: (n,) float32 at 16 kHz of one reader; what a stream says must be known in each language, not how well it is heard.
OSError where espeak-ng is missing.
"""

from collections.abc import Sequence
from itertools import cycle

import numpy as np
from numpy.typing import NDArray

from bench.demo_model.corpus import Espeak
from transcriber.engine.job import WHISPER_SAMPLE_RATE

SENTENCES: dict[str, tuple[str, ...]] = {
    "en": (
        "Good morning, and thank you for coming to our meeting today.",
        "The first train to the city leaves at a quarter past seven.",
        "In the evening the children were tired, because they had been swimming in the lake.",
        "We need three new windows for the house, and the roof must be repaired.",
        "My sister works in a hospital and often comes home late at night.",
        "The weather will be cold and windy, with snow in the mountains.",
        "Please write your name and your address at the top of the page.",
        "Yesterday the council decided to close the old bridge for two years.",
        "Nobody knew where the key was, so we had to wait outside.",
        "The bread is fresh, but there is no more butter on the table.",
        "When I was young we had neither a telephone nor a car.",
        "The doctor said that he should drink more water and sleep longer.",
    ),
    "de": (
        "Guten Morgen, und vielen Dank, dass Sie heute zu unserem Treffen gekommen sind.",
        "Der erste Zug in die Stadt fährt um Viertel nach sieben ab.",
        "Am Abend waren die Kinder müde, weil sie im See geschwommen waren.",
        "Wir brauchen drei neue Fenster für das Haus, und das Dach muss repariert werden.",
        "Meine Schwester arbeitet in einem Krankenhaus und kommt oft spät in der Nacht nach Hause.",
        "Das Wetter wird kalt und windig, mit Schnee in den Bergen.",
        "Bitte schreiben Sie Ihren Namen und Ihre Adresse oben auf die Seite.",
        "Gestern hat der Rat beschlossen, die alte Brücke für zwei Jahre zu schließen.",
        "Niemand wusste, wo der Schlüssel war, also mussten wir draußen warten.",
        "Das Brot ist frisch, aber es ist keine Butter mehr auf dem Tisch.",
        "Als ich jung war, hatten wir weder ein Telefon noch ein Auto.",
        "Der Arzt sagte, dass er mehr Wasser trinken und länger schlafen soll.",
    ),
    "fr": (
        "Bonjour, et merci d'être venus à notre réunion aujourd'hui.",
        "Le premier train pour la ville part à sept heures et quart.",
        "Le soir, les enfants étaient fatigués, parce qu'ils avaient nagé dans le lac.",
        "Nous avons besoin de trois nouvelles fenêtres pour la maison, et il faut réparer le toit.",
        "Ma sœur travaille dans un hôpital et rentre souvent tard dans la nuit.",
        "Le temps sera froid et venteux, avec de la neige dans les montagnes.",
        "Veuillez écrire votre nom et votre adresse en haut de la page.",
        "Hier, le conseil a décidé de fermer le vieux pont pendant deux ans.",
        "Personne ne savait où était la clé, alors nous avons dû attendre dehors.",
        "Le pain est frais, mais il n'y a plus de beurre sur la table.",
        "Quand j'étais jeune, nous n'avions ni téléphone ni voiture.",
        "Le médecin a dit qu'il devait boire plus d'eau et dormir plus longtemps.",
    ),
    "es": (
        "Buenos días, y gracias por venir hoy a nuestra reunión.",
        "El primer tren para la ciudad sale a las siete y cuarto.",
        "Por la noche los niños estaban cansados, porque habían nadado en el lago.",
        "Necesitamos tres ventanas nuevas para la casa, y hay que reparar el techo.",
        "Mi hermana trabaja en un hospital y muchas veces vuelve a casa tarde por la noche.",
        "El tiempo será frío y ventoso, con nieve en las montañas.",
        "Por favor, escriba su nombre y su dirección en la parte superior de la página.",
        "Ayer el consejo decidió cerrar el viejo puente durante dos años.",
        "Nadie sabía dónde estaba la llave, así que tuvimos que esperar fuera.",
        "El pan está fresco, pero ya no hay mantequilla en la mesa.",
        "Cuando yo era joven no teníamos ni teléfono ni coche.",
        "El médico dijo que debía beber más agua y dormir más tiempo.",
    ),
    "ru": (
        "Доброе утро, и спасибо, что вы пришли сегодня на нашу встречу.",
        "Первый поезд в город отправляется в четверть восьмого.",
        "Вечером дети устали, потому что они плавали в озере.",
        "Нам нужны три новых окна для дома, и крышу надо починить.",
        "Моя сестра работает в больнице и часто приходит домой поздно ночью.",
        "Погода будет холодная и ветреная, со снегом в горах.",  # noqa: RUF001
        "Пожалуйста, напишите ваше имя и ваш адрес вверху страницы.",
        "Вчера совет решил закрыть старый мост на два года.",
        "Никто не знал, где ключ, поэтому нам пришлось ждать на улице.",
        "Хлеб свежий, но масла на столе больше нет.",
        "Когда я был молодым, у нас не было ни телефона, ни машины.",  # noqa: RUF001
        "Врач сказал, что ему надо пить больше воды и дольше спать.",
    ),
}  # fmt: skip

VOICES = {"en": "en-us", "de": "de", "fr": "fr", "es": "es", "ru": "ru"}
VARIANTS = ("", "+f2", "+m7")
WORDS_PER_MINUTE = 150
PAUSE_S = 0.35


class Reader:
    """espeak-ng; OSError where it is not installed."""

    def __init__(self) -> None:
        self._espeak = Espeak()

    def sentence(self, language: str, number: int, variant: str = "") -> NDArray[np.float32]:
        """One of ``SENTENCES``, with the pause after it: (n,) float32 at 16 kHz."""
        words = SENTENCES[language][number].split()
        said = self._espeak.speak(VOICES[language] + variant, words, WORDS_PER_MINUTE, 50, 50)
        if said is None:
            raise OSError(f"espeak-ng has no voice {VOICES[language] + variant}")
        pause = np.zeros(round(PAUSE_S * WHISPER_SAMPLE_RATE), np.float32)
        return np.concatenate((np.float32(2**-15) * said.audio.astype(np.float32), pause))

    def reading(self, language: str, sentences: Sequence[int] | None = None, variant: str = "") -> NDArray[np.float32]:
        """Some of the sentences, or all."""
        numbers = range(len(SENTENCES[language])) if sentences is None else sentences
        return np.concatenate([self.sentence(language, number, variant) for number in numbers])

    def talk(self, language: str, seconds: float, variants: Sequence[str] = VARIANTS) -> NDArray[np.float32]:
        """All sentences over and over, by one voice after the other, for so long."""
        pieces: list[NDArray[np.float32]] = []
        for variant in cycle(variants):
            for number in range(len(SENTENCES[language])):
                if sum(map(len, pieces)) >= seconds * WHISPER_SAMPLE_RATE:
                    return np.concatenate(pieces)[: round(seconds * WHISPER_SAMPLE_RATE)]
                pieces.append(self.sentence(language, number, variant))
        raise AssertionError("cycle never ends")
